"""Very many runs, and which tables a statement reads from one end to the other. `MANY_RUNS=1000000` takes minutes."""

from __future__ import annotations

import os

from tests.factories import large, make_run
from triggerapp.engine import environments, queues, sql
from triggerapp.models import Status
from workers.bench.plans import Statement, noted, scanned

__all__ = ("assert_none_reads_all", "filled", "noted")

MANY = int(os.environ.get("MANY_RUNS", "100000"))
_FILL = """
INSERT INTO triggerapp_run (id, task_id, environment_id, queue_id, task, status, message, payload, created_at,
  started_at, finished_at, delivered)
SELECT gen_random_uuid(), 'many-' || n, %s, %s, 'shop.task' || n %% 50,
  CASE WHEN n %% 1000 = 0 THEN 'failed' WHEN n %% 1777 = 0 THEN 'canceled' ELSE 'completed' END,
  '{}', 'x', now() - n * interval '1 second', now() - n * interval '1 second', now() - n * interval '1 second', true
FROM generate_series(1, %s) n
"""


def filled() -> None:
    """A table of very many runs that have ended, and a few that live."""
    environment = environments.current()
    sql.run(
        "TRUNCATE triggerapp_run CASCADE"
    )  # in the holes that other tests left, rows lie in no order: an index is dear
    large.add("triggerapp_run")
    sql.run(_FILL, [environment, queues.identify(environment, "tests"), MANY])
    for status in (Status.WAITING, Status.RUNNING, Status.FAILED):
        make_run(status)
    sql.run("ANALYZE triggerapp_run")


def assert_none_reads_all(statements: list[Statement]) -> None:
    """None of these reads all runs; there must be one."""
    assert statements
    for statement in statements:
        assert "triggerapp_run" not in scanned(statement), statement
