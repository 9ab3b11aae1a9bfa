"""What runs said is kept, without its secrets, up to a size and an age; a run that says nothing costs nothing."""

# ruff: noqa: T201

from __future__ import annotations

import logging
import time

import pytest
from django.db import OperationalError, connection, transaction
from django.test import override_settings

from tests.factories import make_run
from tests.inprocess import durable
from tests.workers.loglines import is_writing, texts, until
from triggerapp.engine import logs as engine
from triggerapp.engine import retention
from triggerapp.models import LogLine, Run, Status
from workers import events, logs, step, wait

pytestmark = pytest.mark.usefixtures("heard")
log = logging.getLogger("shop")


def test_a_run_that_says_nothing_asks_the_database_nothing_and_starts_no_thread(worker):
    asked = []

    def watch(execute, statement, params, many, context):
        asked.append(statement)
        return execute(statement, params, many, context)

    @durable
    def quiet():
        step(len, "abc")

    until(lambda: not is_writing())  # what a test before this one began
    run = quiet.delay()
    with connection.execute_wrapper(watch):
        worker.until(run)
    assert not [statement for statement in asked if "logline" in statement and not statement.startswith("DELETE")]
    assert not is_writing()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("password=hunter2 user=eve", "password=(hidden) user=eve"),
        ("{'api_key': 'sk_live', 'n': 1}", "{'api_key': (hidden), 'n': 1}"),
        ('{"db_password_2": "a b\\"c", "n": 1}', '{"db_password_2": (hidden), "n": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: (hidden)"),
        ("the password was changed", "the password was changed"),
    ],
)
def test_what_the_settings_call_secret_is_not_even_stored(worker, said, kept):
    @durable
    def says():
        log.info("%s", said)

    worker.until(says.delay())
    assert texts() == [kept]


def test_lines_are_there_while_the_run_waits_and_come_in_their_order(worker):
    @durable
    def waits():
        log.info("before")
        wait.for_event("paid")
        log.info("after")

    run = waits.delay()
    worker.work()
    assert texts() == ["before"]
    events.send("paid", {})
    worker.until(run)
    assert texts() == ["before", "before", "after"]  # entered again: it was said twice
    first, second, third = LogLine.objects.order_by("id").values_list("lease", flat=True)
    assert first != second == third


def test_lines_are_there_while_the_run_works_and_no_rollback_takes_them(worker):
    seen = []

    @durable
    def works():
        with transaction.atomic():
            log.info("in a transaction")
            until(lambda: texts() or seen)
            seen.extend(texts())
            transaction.set_rollback(True)

    worker.until(works.delay())
    assert seen == texts() == ["in a transaction"]
    until(lambda: not is_writing())


@override_settings(TRIGGERAPP={"LOG_LINES": 3})
def test_the_lines_of_a_run_are_cut_and_the_last_one_says_so(worker):
    @durable
    def chatters():
        for n in range(5):
            print(n)
        wait.for_event("go")

    run = chatters.delay()
    worker.work()
    events.send("go", {})
    worker.until(run)
    assert texts()[:2] == ["0", "1"]
    assert len(texts()) == 3
    assert "No more of this run's lines is kept: it may have 3 lines" in texts()[2]


@override_settings(TRIGGERAPP={"LOG_LINES": 3})
def test_what_a_run_said_before_its_wait_counts(worker):
    @durable
    def says():
        print("hello")
        wait.for_event("go")
        print("again")

    run = says.delay()
    worker.work()
    events.send("go", {})
    worker.until(run)
    assert texts()[:2] == ["hello", "hello"]
    assert "No more" in texts()[2]


@override_settings(TRIGGERAPP={"LOG_BYTES": 100})
def test_bytes_are_counted_too(worker):
    @durable
    def chatters():
        for _ in range(5):
            print("ü" * 20)

    worker.until(chatters.delay())
    assert len(texts()) == 3
    assert "100 bytes" in texts()[2]


def test_one_line_is_not_the_whole_log(worker):
    @durable
    def shouts():
        log.info("x" * 100_000)
        print("y" * 100_000)

    worker.until(shouts.delay())
    assert [len(text) for text in texts()] == [logs.LONGEST + 2, logs.LONGEST]


def test_a_worker_that_lost_its_run_writes_no_lines_of_it():
    run = make_run(Status.RUNNING)
    line = engine.Line(at=time.time(), level=20, logger="shop", text="late", attempt=1, step="")
    engine.write(run.id, [line], lease=run.lease - 1)
    assert texts() == []
    engine.write(run.id, [line], lease=run.lease)
    assert texts() == ["late"]


def test_lines_wait_for_a_database_that_is_away(worker, monkeypatch):
    write, tries = engine.write, []

    def fails_once(*args, **kwargs):
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("away")
        write(*args, **kwargs)

    monkeypatch.setattr(engine, "write", fails_once)

    @durable
    def says():
        print("hello")

    run = says.delay()
    worker.until(run)
    until(texts)
    assert texts() == ["hello"]


def test_an_error_that_stays_loses_the_lines_and_not_the_run(worker, monkeypatch):
    def fails(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr(engine, "write", fails)

    @durable
    def says():
        print("hello")
        return 7

    assert worker.until(says.delay()) == 7


@override_settings(TRIGGERAPP={"LOGS": "off"})
def test_it_can_be_switched_off(worker):
    @durable
    def says():
        print("hello")

    worker.until(says.delay())
    assert texts() == []


def test_a_line_that_comes_while_its_log_is_left_is_looked_after():
    class Log:
        is_empty = True

    class Logs(dict):
        def pop(self, log):
            log.is_empty = False  # said by another thread, which finds its log looked after
            return super().pop(log)

    writer, log = logs._Writer(), Log()
    writer._logs = Logs({log: 0})
    writer._write()
    assert log in writer._logs


def test_lines_are_deleted_by_their_age_and_with_their_run(worker):
    @durable
    def says():
        print("hello")

    worker.until(says.delay())
    LogLine.objects.update(at="2020-01-01T00:00:00Z")
    assert [engine.prune(limit=1), engine.prune(limit=1)] == [1, 0]
    assert texts() == []
    worker.until(says.delay())
    Run.objects.update(finished_at="2020-01-01T00:00:00Z", delivered=True)
    LogLine.objects.update(at="2100-01-01T00:00:00Z")
    retention.prune_runs()
    assert texts() == []


def test_a_run_process_says_its_lines_to_its_supervisor_and_asks_to_write_only_if_it_said_any():
    told = []
    teller = logs.Teller(told.append)
    teller.flush()
    assert told == []
    line = engine.Line(at=0.0, level=20, logger="stdout", text="a\nb", attempt=1, step="")
    teller.add_printed(line)
    teller.flush()
    teller.end()
    assert [each and each.text for each in told] == ["a", None, "b", None]
