"""How PostgreSQL goes about a statement: which tables it reads from one end to the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection

from triggerapp.engine import sql

Statement = tuple[str, Any]


@contextmanager
def noted() -> Iterator[list[Statement]]:
    """The statements about runs that are made meanwhile, with their parameters."""
    found: list[Statement] = []

    def watch(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        if "triggerapp_run" in statement:
            found.append((statement, params))
        return execute(statement, params, many, context)

    with connection.execute_wrapper(watch):
        yield found


def scanned(statement: Statement) -> Sequence[str]:
    """The tables that are read from one end to the other for it."""
    (row,) = sql.rows(f"EXPLAIN (FORMAT JSON) {statement[0]}", statement[1])
    return _scanned(row["QUERY PLAN"][0]["Plan"])


def _scanned(plan: dict[str, Any]) -> list[str]:
    found = [plan["Relation Name"]] if plan["Node Type"] in ("Seq Scan", "Parallel Seq Scan") else []
    return found + [name for part in plan.get("Plans", ()) for name in _scanned(part)]
