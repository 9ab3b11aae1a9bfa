"""The ticker: what it reads and says as a process, and whom it declares dead after an outage."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery
from django.db import OperationalError, connection, transaction

from tests.factories import fresh, make_run, make_worker
from tests.faults.database import named
from tests.inprocess import forward
from triggerapp.clock import now
from triggerapp.engine import (
    environments,
    events,
    notices,
    rescue,
    retention,
    schedules,
    sql,
    subscriptions,
    wakes,
    workers,
)
from triggerapp.models import Firing, Run, Schedule, Status, Worker
from triggerapp.models import Start as StartRow
from workers import identity, link, ticker
from workers.bootsteps import app_path

pytestmark = pytest.mark.usefixtures("database")

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts tickers as a worker does, on the tests' database."""
    started = []
    identity.renew()
    monkeypatch.setenv("LIVE_TASKS", "tests.sdk.tasks")
    monkeypatch.setenv("DATABASE_URL", named(os.environ["DATABASE_URL"], str(connection.settings_dict["NAME"])))

    def start(app: str) -> subprocess.Popen[str]:
        started.append(link.start(app, hostname="here", wait=False))
        return started[-1]

    yield start
    for process in started:
        link.stop(process)


def until(condition: Callable[[], bool]) -> bool:
    """Whether it came true."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def beats() -> bool:
    return until(lambda: Worker.objects.filter(pk=identity.worker()).exists())


# --- the process ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_a_project_prints_stops_no_ticker_and_is_not_taken_for_its_word(start: Start):
    process = start("tests.workers.noisy:app")
    assert beats()
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


@pytest.mark.slow
def test_the_passwords_of_a_pickled_app_are_in_no_list_of_processes(start: Start):
    path = app_path(Celery("secretive", broker="redis://user:hunter2@nowhere"))
    assert path.startswith("pickle:")
    process = start(path)
    assert beats()
    assert path.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def make_due() -> Schedule:
    """A schedule that is due now, and then at the end of the year."""
    due = {"next_at": now() - timedelta(seconds=1), "deduplication_key": "k"}
    return Schedule.objects.create(environment_id=environments.current(), task="sdk.echo", cron="0 0 31 12 *", **due)


def fires(schedule: Schedule) -> bool:
    return until(lambda: fresh(schedule).last_at is not None)


@pytest.mark.slow
def test_a_schedule_fires_in_a_ticker_that_has_loaded_no_task_yet(start: Start):
    schedule = make_due()
    start("tests.live.app:app")
    assert fires(schedule)
    assert Firing.objects.get().run == Run.objects.get().id


@pytest.mark.slow
@pytest.mark.parametrize("point", ["fire.before_commit", "fire.after_commit"])
def test_a_ticker_killed_while_it_fires_leaves_one_run(start: Start, monkeypatch, point):
    schedule = make_due()
    monkeypatch.setenv("TRIGGERAPP_FAIL", f"ticker/{point}:kill9@1")
    assert start("tests.live.app:app").wait(120) == -9
    assert Run.objects.count() == (point == "fire.after_commit")
    monkeypatch.delenv("TRIGGERAPP_FAIL")
    start("tests.live.app:app")
    assert fires(schedule)
    assert Firing.objects.get().run == Run.objects.get().id


@pytest.mark.slow
@pytest.mark.parametrize("point", ["start.before_commit", "trigger.after_commit", "start.after_commit"])
def test_a_ticker_killed_while_it_starts_what_an_event_is_to_start_leaves_one_run(start: Start, monkeypatch, point):
    monkeypatch.setenv("LIVE_TASKS", "tests.live.listening")
    subscriptions.renew("live", [subscriptions.Wanted(task="hooks.listen", name="webhook/hub/push")])
    events.emit("webhook/hub/push", '{"n": 1}')
    monkeypatch.setenv("TRIGGERAPP_FAIL", f"ticker/{point}:kill9@1")
    assert start("tests.live.app:app").wait(120) == -9
    assert Run.objects.count() == (point == "start.after_commit")
    monkeypatch.delenv("TRIGGERAPP_FAIL")
    start("tests.live.app:app")
    assert until(lambda: StartRow.objects.filter(run__isnull=False).exists())
    assert StartRow.objects.get().run == Run.objects.get().id


# --- after an outage ------------------------------------------------------------------------------


def held_by(worker_id: object) -> Run:
    return make_run(Status.RUNNING, worker=worker_id)


def test_a_beat_says_whether_it_came_in_time():
    me = make_worker()
    for seconds, in_time in ((3, True), (8, False), (3, True), (600, False)):
        forward(seconds=seconds)
        assert workers.beat(me, hostname="here", pid=1) is in_time


def test_a_ticker_that_could_not_beat_gives_the_others_time_to_beat_too(worker, monkeypatch):
    others = held_by(make_worker())
    forward(seconds=60)
    worker.tick()
    assert fresh(others).status == Status.RUNNING
    later = time.monotonic() + 11
    monkeypatch.setattr(ticker, "time", SimpleNamespace(monotonic=lambda: later, sleep=time.sleep))
    worker.beat()
    worker.ticker._catch_up()
    assert fresh(others).crashes == 1


def test_a_tickers_own_runs_are_not_rescued_from_it(worker):
    mine = held_by(identity.worker())
    forward(seconds=60)
    worker.ticker._catch_up()
    assert fresh(mine).status == Status.RUNNING
    assert rescue.rescue() == 1


def test_a_beat_that_failed_is_made_up_before_anything_else(worker, monkeypatch):
    others, beat = held_by(make_worker(alive=False)), workers.beat
    forward(seconds=1)

    def away(*_, **__):
        raise OperationalError("the database is away")

    monkeypatch.setattr(workers, "beat", away)
    worker.ticker._due.clear()
    for _ in range(2):
        with pytest.raises(OperationalError):
            worker.ticker.tick()
    assert fresh(others).status == Status.RUNNING
    monkeypatch.setattr(workers, "beat", beat)
    worker.ticker.tick()
    assert fresh(others).status == Status.QUEUED


def test_a_database_that_goes_away_in_the_middle_of_a_tick_ends_it(worker, monkeypatch):
    others = held_by(make_worker(alive=False))
    forward(seconds=1)

    def away():
        raise OperationalError("the database is away")

    monkeypatch.setattr(wakes, "forget_unwaited", away)
    with pytest.raises(OperationalError):
        worker.ticker._catch_up()
    assert fresh(others).status == Status.RUNNING


def test_tables_that_are_missing_are_said_once_in_a_while_and_in_a_sentence(worker, monkeypatch, caplog):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with transaction.atomic():
        sql.run("ALTER TABLE triggerapp_environment RENAME TO elsewhere")
        environments.by_slug.forget()
        worker.ticker._safely(environments.current)
        transaction.set_rollback(True)
    for _ in range(3):
        worker.ticker._safely(lambda: sql.run("SELECT 1 FROM nowhere"))
    assert caplog.messages == ["the database has no tables of triggerapp yet: run `manage.py migrate`"]
    assert caplog.records[0].exc_info is None


def test_it_is_said_once_that_the_database_is_back(worker, monkeypatch, caplog):
    def away(*args):
        raise OperationalError("it is away")

    caplog.set_level("INFO")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for _ in range(3):  # one that comes and goes is told of as seldom as one that stays away
        with monkeypatch.context() as patched:
            patched.setattr(wakes, "expire_due", away)
            assert worker.ticker._safely(worker.ticker.tick) is False
        worker.ticker._safely(worker.ticker.tick)
    said = [record.getMessage() for record in caplog.records if record.name == "triggerapp.ticker"]
    assert said == ["the database did not answer: it is away", "the database answers again"]


def test_a_bug_in_one_part_of_a_tick_ends_no_other(worker, monkeypatch):
    others = held_by(make_worker(alive=False))
    forward(seconds=1)
    monkeypatch.setattr(wakes, "forget_unwaited", lambda: 1 / 0)
    worker.ticker._catch_up()
    assert fresh(others).status == Status.QUEUED


@pytest.mark.parametrize(
    "bug",
    [(events, "deliver_due"), (notices, "start_due"), (subscriptions, "of_code"), (sql, "delete_some")],
    ids=lambda bug: bug[1],
)
def test_a_bug_in_a_tick_keeps_no_run_from_its_rescue_and_no_schedule_from_firing(worker, monkeypatch, bug):
    others, fired = held_by(make_worker(alive=False)), []
    forward(seconds=1)
    monkeypatch.setattr(*bug, lambda *_, **__: 1 / 0)
    monkeypatch.setattr(schedules, "fire", lambda: fired.append(1))
    worker.ticker._due.clear()
    worker.ticker.tick()
    assert fresh(others).status == Status.QUEUED
    assert fired


def test_while_there_is_more_to_delete_the_next_tick_goes_on(worker, monkeypatch):
    found = [1000, 1000, 3]
    monkeypatch.setitem(retention.KINDS, "lines", retention.Kind(prune=lambda _: found.pop(0), kept=""))
    worker.ticker._due.clear()
    assert [worker.ticker.tick() for _ in range(4)] == [True, True, False, False]
    assert found == []


def test_a_new_worker_on_a_database_that_has_just_been_started_is_late():
    def beat() -> bool:
        return workers.beat(uuid4(), hostname="here", pid=1)

    statement = workers._BEAT
    assert "pg_postmaster_start_time()" in statement
    try:
        workers._BEAT = statement.replace("pg_postmaster_start_time()", "now() - interval '9 seconds'")
        assert beat() is False
        workers._BEAT = statement.replace("pg_postmaster_start_time()", "now() - interval '11 seconds'")
        assert beat() is True
    finally:
        workers._BEAT = statement
