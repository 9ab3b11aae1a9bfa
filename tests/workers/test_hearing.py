"""What of all that is logged and printed in a worker is a run's, and with which level, step and attempt."""

# ruff: noqa: T201

from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from celery.utils.log import get_task_logger

from tests.inprocess import durable
from tests.workers.loglines import lines, texts
from triggerapp.models import LogLine, Run
from workers import context, hearing, step

pytestmark = pytest.mark.usefixtures("heard")
log = logging.getLogger("shop")


def test_records_and_prints_are_kept_with_level_step_and_attempt(worker):
    @durable
    def buy():
        log.info("began with %s", "tkt_1")
        step(charge)
        print("done", 1)

    def charge():
        log.error("no answer")
        print("on stderr", file=sys.stderr)

    run = buy.delay()
    worker.until(run)
    assert lines() == [
        (logging.INFO, "", "began with tkt_1"),
        (logging.ERROR, "charge#1", "no answer"),
        (logging.WARNING, "charge#1", "on stderr"),
        (logging.INFO, "", "done 1"),
    ]
    row = LogLine.objects.first()
    lease = Run.objects.get(pk=run.id).lease
    assert (str(row.run_id), row.attempt, row.lease, row.logger) == (run.id, 1, lease, "shop")
    assert LogLine.objects.last().logger == "stdout"


def test_printed_pieces_are_lines_and_the_last_one_needs_no_end(worker):
    @durable
    def prints():
        print("a", "b", sep="|", end="")
        print("c\nd\n\n")
        sys.stdout.write("e")

    worker.until(prints.delay())
    assert texts() == ["a|bc", "d", "e"]


def test_a_record_that_a_handler_writes_to_a_stream_is_heard_once(worker):
    handler = logging.StreamHandler(sys.stderr)
    log.addHandler(handler)

    @durable
    def says():
        log.warning("once")

    worker.until(says.delay())
    log.removeHandler(handler)
    assert texts() == ["once"]


def test_the_loggers_of_tasks_are_heard_and_an_error_brings_its_traceback(worker):
    @durable
    def fails():
        try:
            raise ValueError("no such seat")
        except ValueError:
            get_task_logger("shop.tasks").exception("not bought")

    worker.until(fails.delay())
    (text,) = texts()
    assert text.startswith("not bought\nTraceback")
    assert text.endswith("ValueError: no such seat")


def test_what_is_said_outside_of_runs_is_nobodys(worker):
    @durable
    def quiet():
        return 1

    log.error("outside")
    print("outside")
    worker.until(quiet.delay())
    assert texts() == []


def test_a_thread_that_the_run_starts_speaks_for_it(worker):
    @durable
    def threaded():
        thread = threading.Thread(target=lambda: print("from a thread"))
        thread.start()
        thread.join()

    worker.until(threaded.delay())
    assert texts() == ["from a thread"]


def test_what_feeds_a_pool_of_threads_does_not_speak_for_its_only_run():
    attempt, inside, over = SimpleNamespace(is_eager=False), threading.Event(), threading.Event()

    def run() -> None:
        with context.entered(attempt):
            inside.set()
            over.wait(60)

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(run)
        assert inside.wait(60)
        of_its_own = pool.submit(context.speaker)
        assert of_its_own.result(60) is attempt
        assert context.speaker() is None  # the main thread, which takes the messages of other tasks meanwhile
        over.set()
        running.result(60)


def test_what_postgresql_has_no_characters_for_is_replaced(worker):
    unseen = logging.getLogger("unseen")  # what pytest captures is sent to the first process: half a pair cannot be
    unseen.propagate = False
    unseen.addHandler(hearing.Ear())

    @durable
    def says():
        unseen.info("a\0b \udc80")

    worker.until(says.delay())
    assert texts() == [r"a\x00b \udc80"]
