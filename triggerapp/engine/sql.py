"""Running SQL that the ORM cannot say: UPDATE ... RETURNING, and statements that do all of a move at once.

A move of a run is one round trip; that is where the speed of a run comes from.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import UndefinedTable

from triggerapp.errors import DatabaseUnavailable

Row = dict[str, Any]
Params = Sequence[Any] | Mapping[str, Any]

UNANSWERED = (OperationalError, InterfaceError, DatabaseUnavailable)
"""What a database that does not answer raises."""
NO_TABLES = "the database has no tables of triggerapp yet: run `manage.py migrate`"
_REPLAN = 10.0
"""Seconds after which a prepared statement is planned anew: a plan made for a small table reads all of a large one."""


class Hot(str):
    """A statement that runs all the time: each connection has PostgreSQL parse and plan it once, not for each call."""

    __slots__ = ("_names", "_stamped")

    _names: Sequence[str] | None
    _stamped: tuple[int, bytes]

    def __new__(cls, statement: str) -> Hot:
        """One that was never run."""
        made = super().__new__(cls, statement)
        made._names, made._stamped = None, (-1, b"")
        return made

    def stamped(self) -> bytes:
        """The statement, another one for PostgreSQL every `_REPLAN` seconds."""
        age, text = self._stamped
        now = int(time.monotonic() / _REPLAN)
        if now != age:
            text = f"{self} -- {now}".encode()
            self._stamped = now, text
        return text

    def names(self, cursor: Any) -> Sequence[str]:
        """Its columns, which are the same each time; to have them described costs more than to read the rows."""
        if self._names is None:
            self._names = _names(cursor)
        return self._names


class Lock(NamedTuple):
    """A transaction-scoped advisory lock on a name within a space.

    Events of an environment are in that of its number, what else it has in the negative one, what none has in 0.
    """

    space: int
    name: str


def rows(statement: str, params: Params = ()) -> list[Row]:
    """Run `statement` and return its rows by column name."""
    with _executed(statement, params) as cursor:
        names = statement.names(cursor) if isinstance(statement, Hot) else _names(cursor)
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _names(cursor: Any) -> Sequence[str]:
    return [column[0] for column in cursor.description or ()]


def row(statement: str, params: Params = ()) -> Row | None:
    """The first row, or None."""
    found = rows(statement, params)
    return found[0] if found else None


def run(statement: str, params: Params = ()) -> int:
    """Run `statement`; how many rows it changed."""
    with _executed(statement, params) as cursor:
        return int(cursor.rowcount)


def delete_some(table: str, where: str, params: Sequence[Any], *, limit: int) -> int:
    """Delete up to `limit` rows, and wait for none that somebody else is deleting; how many."""
    found = f"SELECT ctid FROM {table} WHERE {where} LIMIT %s FOR UPDATE SKIP LOCKED"
    return run(f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({found}))", [*params, limit])


@contextmanager
def _executed(statement: str, params: Params) -> Iterator[Any]:
    revive()
    if isinstance(statement, Hot) and _may_prepare():
        with _prepared(statement, params) as prepared:
            yield prepared
        return
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        yield cursor


def revive() -> None:
    """Let go of a connection that the server has closed: the next statement makes a new one.

    Django does so between requests, and Celery between tasks; a script, beat, or a consumer has neither. What a
    transaction has begun on a connection is lost with it, and must fail.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection is None or wrapper.in_atomic_block or not wrapper.autocommit:
        return
    if wrapper.errors_occurred:
        wrapper.close_if_unusable_or_obsolete()
    if is_hung_up(wrapper):
        wrapper.close()


def in_transaction() -> list[BaseDatabaseWrapper]:
    """The connections of this thread with a transaction that somebody has begun and not ended."""
    return [each for each in connections.all(initialized_only=True) if each.in_atomic_block or _is_manual(each)]


def _is_manual(wrapper: BaseDatabaseWrapper) -> bool:
    return wrapper.connection is not None and wrapper.settings_dict["AUTOCOMMIT"] and not wrapper.autocommit


def abandon_transactions() -> list[str]:
    """Roll back what is open, by closing connections, which are usable at once; the names of their databases."""
    left = in_transaction()
    for wrapper in left:
        wrapper.close()
        wrapper.connection = None
        wrapper.in_atomic_block = wrapper.closed_in_transaction = False  # else it never connects, which resets the rest
    return [wrapper.alias for wrapper in left]


def is_hung_up(wrapper: BaseDatabaseWrapper, *, signs: int = select.POLLRDHUP) -> bool:
    """Whether the server has closed the connection, by what the kernel knows of it; what may be read is no sign."""
    raw: Any = wrapper.connection
    if raw is None or raw.closed:
        return raw is not None
    poll = select.poll()
    poll.register(raw.fileno(), signs)
    return bool(poll.poll(0))


def _may_prepare() -> bool:
    """Not through a pooler of transactions (Django's own setting for those), nor past those who watch statements."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    pooled = wrapper.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    return not (pooled or wrapper.queries_logged or wrapper.execute_wrappers)


@contextmanager
def _prepared(statement: Hot, params: Params) -> Iterator[psycopg.Cursor[Any]]:
    """Django's cursors never prepare; its connection, transaction and errors stay in use."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    wrapper.ensure_connection()
    wrapper.validate_no_broken_transaction()
    raw: psycopg.Connection[Any] = wrapper.connection
    with wrapper.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        before, raw.prepare_threshold = raw.prepare_threshold, 0  # None, Django's choice, forbids it to all
        try:
            cursor.execute(statement.stamped(), params)
        finally:
            raw.prepare_threshold = before
        yield cursor


_LOCK = Hot("SELECT pg_advisory_xact_lock(%s, hashtext(%s))")


def lock(key: Lock) -> None:
    """Wait for the advisory lock; it is released with the transaction."""
    run(_LOCK, [key.space, key.name])


def reason(error: BaseException) -> str:
    """Why the database did not answer: the few words at the end of what the driver says of a connection.

    What it says of anything else may have addresses and statements in it; that is told by its kind alone.
    """
    first = str(error).strip().partition("\n")[0]
    _, found, said = first.rpartition("failed: ")
    return (said.strip() if found else "") or type(error).__name__


def lacks_tables(error: BaseException) -> bool:
    """Whether it was raised because a table is not there."""
    return isinstance(error, ProgrammingError) and isinstance(error.__cause__, UndefinedTable)


def after_commit(action: Callable[[], object]) -> None:
    """Run `action` once the surrounding transaction has committed, at once if there is none."""
    transaction.on_commit(action)


def notify() -> None:
    """Rouse the tickers: there is a deadline nearer than their next look."""
    run("NOTIFY triggerapp_tick")
