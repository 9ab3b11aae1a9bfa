"""Running SQL that the ORM cannot say: UPDATE ... RETURNING, and statements that do all of a move at once.

A move of a run is one round trip; that is where the speed of a run comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db import connection, transaction

Row = dict[str, Any]


class Lock(NamedTuple):
    """A transaction-scoped advisory lock on a name within an environment."""

    space: int
    name: str


def rows(statement: str, params: Sequence[Any] = ()) -> list[Row]:
    """Run `statement` and return its rows by column name."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def row(statement: str, params: Sequence[Any] = ()) -> Row | None:
    """The first row, or None."""
    found = rows(statement, params)
    return found[0] if found else None


def run(statement: str, params: Sequence[Any] = ()) -> int:
    """Run `statement`; how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return int(cursor.rowcount)


def lock(key: Lock) -> None:
    """Wait for the advisory lock; it is released with the transaction."""
    run("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [key.space, key.name])


def after_commit(action: Callable[[], object]) -> None:
    """Run `action` once the surrounding transaction has committed, at once if there is none."""
    transaction.on_commit(action)


def notify() -> None:
    """Rouse the tickers: there is a deadline nearer than their next look."""
    run("NOTIFY triggerapp_tick")
