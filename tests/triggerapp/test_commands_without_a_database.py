"""Management commands where the database is down, or has no tables yet: one sentence that says what to do."""

from __future__ import annotations

import re

import pytest
from django.core.management import CommandError
from django.db import OperationalError, ProgrammingError, connection
from psycopg.errors import UndefinedTable

from tests.inprocess import durable
from tests.triggerapp.commands import said
from triggerapp.engine import environments
from triggerapp.management import base
from triggerapp.services import ServiceUrls

pytestmark = pytest.mark.usefixtures("database")
NOWHERE = "0192f000-0000-7000-8000-000000000000"


@durable
def greet(name: str) -> str:
    return f"hello {name}"


COMMANDS = [
    ("trigger", greet.name, '{"name": "Eve"}'),
    ("send_event", "paid"),
    ("cancel", NOWHERE),
    ("retry", NOWHERE),
    ("replay", "--status", "failed"),
    ("runs", "list"),
    ("runs", "show", NOWHERE),
    ("prune",),
    ("checkpoints",),
    ("api_keys", "list"),
    ("devlogin",),
    ("subscriptions",),
    ("webhooks", "list"),
]


def fail_with(monkeypatch, error):
    def fail(*_, **__):
        raise error

    for name in ("cursor", "ensure_connection"):
        monkeypatch.setattr(connection, name, fail)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_database_that_is_down_is_one_sentence_with_what_to_do(monkeypatch, arguments):
    environments.current()  # known by now to any process that has asked before
    said_by_driver = (
        'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused\n\tIs it?'
    )
    with monkeypatch.context() as patch:
        patch.setattr(base, "running_urls", lambda _: None)
        fail_with(patch, OperationalError(said_by_driver))
        with pytest.raises(
            CommandError, match=r"the database .* at .* did not answer \(Connection refused\)\."
        ) as told:
            said(*arguments)
    assert "`manage.py services start`" in str(told.value)
    assert "\n" not in str(told.value)
    assert told.value.returncode == 1


def test_a_database_that_is_down_beside_servers_that_run_says_how_to_take_those(monkeypatch):
    environments.current()
    urls = ServiceUrls(database_url="postgres://x", broker_url="redis://x")
    with monkeypatch.context() as patch:
        patch.setattr(base, "running_urls", lambda _: urls)
        fail_with(patch, OperationalError("connection refused"))
        with pytest.raises(CommandError, match=re.escape("`export $(manage.py services status)` leads there")):
            said("runs", "list")


def test_a_database_without_our_tables_says_to_migrate(monkeypatch):
    missing = ProgrammingError('relation "triggerapp_run" does not exist')
    missing.__cause__ = UndefinedTable()
    with monkeypatch.context() as patch:
        fail_with(patch, missing)
        with pytest.raises(CommandError, match=r"run `manage\.py migrate`"):
            said("prune")
