"""A program that lives long, such as beat, outlives its database's restarts: the next call connects anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from tests.factories import make_trigger
from triggerapp.engine import events, runs, sql, tokens, triggers
from triggerapp.errors import DatabaseUnavailable

pytestmark = pytest.mark.usefixtures("database")

CALLS: dict[str, Callable[[], object]] = {
    "trigger": lambda: triggers.trigger(make_trigger()),
    "event": lambda: events.emit("shop/opened", "{}"),
    "token": lambda: tokens.create(timeout=timedelta(hours=1)),
    "results": lambda: runs.results([]),
}


def hang_up() -> None:
    """The server ends this process's session, as at its own end."""
    connection.ensure_connection()
    raw = connection.connection
    with psycopg.connect(**{**raw.info.get_parameters(), "password": raw.info.password}) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [raw.info.backend_pid])
    assert not sql.is_hung_up(connection) or not raw.closed  # it has not noticed yet


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_first_call_after_the_server_hung_up_is_taken(call: Callable[[], object]):
    call()
    hang_up()
    call()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_connection_that_failed_is_not_used_again(call: Callable[[], object]):
    call()
    connection.connection.close()
    call()


def test_what_a_transaction_has_lost_is_said_and_the_next_call_is_taken():
    with pytest.raises((OperationalError, DatabaseUnavailable)), transaction.atomic():
        triggers.trigger(make_trigger())
        hang_up()
        triggers.trigger(make_trigger())
    triggers.trigger(make_trigger())
    assert sql.row("SELECT count(*) AS n FROM triggerapp_run") == {"n": 1}


def test_what_a_transaction_by_hand_has_lost_is_said_too():
    """Of Django's own kind, without `atomic()`: on another connection only its second half would be kept."""
    transaction.set_autocommit(False)
    try:
        sql.run("SELECT 1")
        hang_up()
        with pytest.raises(OperationalError):
            sql.run("SELECT 1")
    finally:
        connection.close()
        transaction.set_autocommit(True)


def test_a_connection_with_something_to_read_is_kept():
    """A ticker's, which listens."""
    with connection.cursor() as cursor:
        cursor.execute("LISTEN somebody")
        sql.run("NOTIFY somebody")
    raw = connection.connection
    sql.run("SELECT 1")
    assert connection.connection is raw
    connection.close()
