"""Statements that run all the time are prepared, and are otherwise like all others."""

from __future__ import annotations

import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from triggerapp.engine import sql

pytestmark = pytest.mark.usefixtures("database")

DOUBLE = sql.Hot("SELECT %s::int * 2 AS doubled")


def prepared() -> list[str]:
    return [row["statement"] for row in sql.rows("SELECT statement FROM pg_prepared_statements")]


def test_a_hot_statement_is_prepared_once_a_connection():
    connection.close()
    assert [sql.row(DOUBLE, [number]) for number in (1, 2, 3)] == [{"doubled": 2}, {"doubled": 4}, {"doubled": 6}]
    assert len([statement for statement in prepared() if "* 2 AS doubled" in statement]) == 1


def test_a_hot_statement_belongs_to_the_transaction_around_it():
    insert = sql.Hot("INSERT INTO triggerapp_environment (slug) VALUES (%s)")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        assert sql.run(insert, ["hot"]) == 1
        raise ZeroDivisionError
    assert sql.row("SELECT 1 FROM triggerapp_environment WHERE slug = 'hot'") is None


def test_its_errors_are_djangos():
    with pytest.raises(DataError):
        sql.row(sql.Hot("SELECT 1 / %s::int"), [0])
    assert sql.row(DOUBLE, [1]) == {"doubled": 2}


def test_those_who_watch_statements_see_it():
    with CaptureQueriesContext(connection) as seen:
        sql.row(DOUBLE, [1])
    assert len(seen) == 1


def test_behind_a_pooler_of_transactions_nothing_is_prepared(monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    assert sql.row(DOUBLE, [1]) == {"doubled": 2}
    assert not prepared()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'connection to server at "10.0.0.1", port 5432 failed: Connection refused\n\tIs it running?',
            "Connection refused",
        ),
        ("canceling statement due to lock timeout\nCONTEXT: while locking tuple (0,1)", "OperationalError"),
    ],
)
def test_of_what_the_driver_says_only_the_reason_of_a_connection_is_told(said, told):
    assert sql.reason(OperationalError(said)) == told
