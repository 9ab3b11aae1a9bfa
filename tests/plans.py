"""Very many runs, and which tables a statement reads from one end to the other. `MANY_RUNS=1000000` takes minutes."""

from __future__ import annotations

import os
from collections.abc import Callable
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
    sql.run(_FILL, [environment, queues.identify(environment, "tests"), MANY])
    for status in (Status.WAITING, Status.RUNNING, Status.FAILED):
        make_run(status)
    sql.run("ANALYZE triggerapp_run")


def watched(look: Callable[[], object]) -> list[Statement]:
    """What is asked of runs by `look`."""
    statements: list[Statement] = []

    def watch(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        if "triggerapp_run" in statement:
            statements.append((statement, params))
        return execute(statement, params, many, context)

    with connection.execute_wrapper(watch):
        look()
    return statements


def scanned(statement: str, params: Any) -> list[str]:
    """The tables that are read from one end to the other."""
    (row,) = sql.rows(f"EXPLAIN (FORMAT JSON) {statement}", params)
    return _scanned(row["QUERY PLAN"][0]["Plan"])


def _scanned(plan: dict[str, Any]) -> list[str]:
    found = [plan["Relation Name"]] if plan["Node Type"] in ("Seq Scan", "Parallel Seq Scan") else []
    return found + [name for part in plan.get("Plans", ()) for name in _scanned(part)]
