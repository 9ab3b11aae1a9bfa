"""A pool keeps its database connection over durable tasks, and leaves plain ones to Celery."""

from __future__ import annotations

import select
from types import SimpleNamespace

import pytest
from celery import signals
from django.db import connection

from triggerapp.engine import sql
from workers import connections
from workers.bench import tasks

pytestmark = pytest.mark.usefixtures("database")


class Fixup:
    """Celery's, reduced to its handlers."""

    def __init__(self) -> None:
        self.closed = 0
        signals.task_prerun.connect(self.on_task_prerun)
        signals.task_postrun.connect(self.on_task_postrun)

    def on_task_prerun(self, sender=None, **_):
        self.closed += 1

    on_task_postrun = on_task_prerun

    def close_cache(self):
        pass


@pytest.fixture
def fixup():
    connection.close()  # another test may listen on it, and be heard of in this one
    found = Fixup()
    before = [list(signal.receivers) for signal in (signals.task_prerun, signals.task_postrun)]
    app = SimpleNamespace(_fixups=[SimpleNamespace(worker_fixup=found)])
    connections.keep(SimpleNamespace(pool_cls=tasks.app.Worker, app=app))
    yield found
    for signal, receivers in zip((signals.task_prerun, signals.task_postrun), before, strict=True):
        signal.receivers[:] = receivers
        signal.sender_receivers_cache.clear()


def backend() -> int:
    return sql.rows("SELECT pg_backend_pid() AS pid")[0]["pid"]


def run(task):
    signals.task_prerun.send(sender=task)
    signals.task_postrun.send(sender=task)


def test_a_durable_task_keeps_the_connection(fixup):
    first = backend()
    run(tasks.app.tasks[tasks.durable_noop.name])
    assert (backend(), fixup.closed) == (first, 0)


def test_a_plain_task_is_left_to_celery(fixup):
    run(tasks.app.tasks[tasks.plain_noop.name])
    assert fixup.closed == 2


def test_a_connection_that_the_server_has_closed_is_opened_again(fixup):
    first = backend()
    other = connection.copy()
    other.cursor().execute("SELECT pg_terminate_backend(%s)", [first])
    other.close()
    select.select([connection.connection.fileno()], [], [], 120)  # until the word of it has come
    run(tasks.app.tasks[tasks.durable_noop.name])
    assert backend() != first


def test_a_connection_is_kept_where_django_would_keep_it_for_a_request_only(fixup, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.close()
    first = backend()
    run(tasks.app.tasks[tasks.durable_noop.name])
    assert backend() == first


def test_a_worker_leaves_the_pool_of_the_web_processes_alone(monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"pool": {"min_size": 1}})
    lent = backend()
    connections.without_pool()
    assert connection.settings_dict["OPTIONS"] == {}
    assert connection.pool is None
    assert backend() != lent
