"""Very many runs, and which tables a statement reads from one end to the other. `MANY_RUNS=1000000` takes minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from tests.factories import make_run
from triggerapp.engine import environments, queues, sql
from triggerapp.models import Status

MANY = int(os.environ.get("MANY_RUNS", "100000"))
Statement = tuple[str, Any]

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
    sql.run(_FILL, [environment, queues.identify(environment, "tests"), MANY])
    for status in (Status.WAITING, Status.RUNNING, Status.FAILED):
        make_run(status)
    sql.run("ANALYZE triggerapp_run")


@contextmanager
def noted() -> Iterator[list[Statement]]:
    """The statements about runs that were made meanwhile, with their parameters."""
    found: list[Statement] = []

    def watch(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        if "triggerapp_run" in statement:
            found.append((statement, params))
        return execute(statement, params, many, context)

    with connection.execute_wrapper(watch):
        yield found


def assert_none_reads_all(statements: list[Statement]) -> None:
    """None of these reads all runs; there must be one."""
    assert statements
    for statement, params in statements:
        (row,) = sql.rows(f"EXPLAIN (FORMAT JSON) {statement}", params)
        assert "triggerapp_run" not in scanned(row["QUERY PLAN"][0]["Plan"]), (statement, params)


def scanned(plan: dict[str, Any]) -> list[str]:
    """The tables that a plan reads from one end to the other."""
    found = [plan["Relation Name"]] if plan["Node Type"] in ("Seq Scan", "Parallel Seq Scan") else []
    return found + [name for part in plan.get("Plans", ()) for name in scanned(part)]
