"""Exceptions that are no `Exception`: they fail an attempt as any other, and never leave a run to itself."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest
from celery import signals
from celery.exceptions import WorkerTerminate

from tests.inprocess import Killed, durable
from triggerapp.models import Attempt, Run, Status, Step
from workers import RetryPolicy, interrupts, rollback, step, wait
from workers.errors import RecordedError

pytestmark = pytest.mark.usefixtures("database")

ONCE = RetryPolicy(max_attempts=1)
TWICE = RetryPolicy(max_attempts=2, retry_on=(BaseException,))


class OutOfPaper(BaseException):
    """A user's own."""


class Timeout(BaseException):
    """As gevent's."""

    def __init__(self, seconds):
        super().__init__(seconds)
        self.seconds = seconds


@pytest.fixture
def failures():
    """What Celery is told of failed tasks."""
    told = []

    def hear(exception, **_):
        told.append(exception)

    signals.task_failure.connect(hear)
    yield told
    signals.task_failure.disconnect(hear)


def raises(error):
    raise error


def failing(error, **options):
    def purchase():
        raise error

    return durable(retry=ONCE, **options)(purchase)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), OutOfPaper("tray 2"), Timeout(1)])
def test_it_fails_the_run_and_celery_is_told_once(worker, failures, error):
    run = failing(error).trigger()
    worker.work()
    worker.tick()
    row = Run.objects.get()
    assert (row.status, row.delivered, row.crashes, Attempt.objects.count()) == (Status.FAILED, True, 0, 1)
    assert [type(told) for told in failures] == [RecordedError]
    with pytest.raises(RecordedError, match=type(error).__name__):
        run.get(timeout=0)


def test_a_canceled_coroutine_fails_its_run(worker):
    @durable(retry=ONCE)
    async def purchase():
        raise asyncio.CancelledError

    purchase.trigger()
    worker.work()
    assert Run.objects.get().status == Status.FAILED


def test_it_is_tried_again_where_the_policy_wants_it_and_its_step_is_called_again(worker):
    calls = []

    @durable(retry=TWICE)
    def purchase():
        return step(charge, key="charge")

    def charge():
        calls.append(1)
        if len(calls) == 1:
            raise OutOfPaper
        return "paid"

    assert worker.until(purchase.trigger()) == "paid"
    assert list(Step.objects.values_list("key", flat=True)) == ["charge"]


def test_it_rolls_back_and_a_rollback_that_raises_it_has_failed(worker):
    done = []

    @durable(retry=ONCE)
    def purchase():
        rollback(done.append, "undo reserve")
        rollback(raises, OutOfPaper("undo"))
        raise KeyboardInterrupt

    purchase.trigger()
    worker.work()
    assert done == ["undo reserve"]
    assert Run.objects.get().error["rollbacks_failed"] == ["rollback:raises#1"]


def test_what_before_start_raises_ends_the_run(worker, failures):
    @durable(retry=ONCE)
    def purchase():
        return None

    type(purchase).user_before_start = lambda *_: raises(ValueError("no"))
    purchase.trigger()
    worker.work()
    assert (Run.objects.get().status, [str(told) for told in failures]) == (Status.FAILED, ["no"])


def test_the_end_of_a_process_or_worker_is_none_of_the_attempts(worker):
    failing(Killed()).trigger()
    worker.work()
    assert Run.objects.get().status == Status.RUNNING
    assert interrupts.is_one(WorkerTerminate())


def test_sys_exit_ends_no_thread_so_there_it_is_the_tasks():
    found = []
    thread = threading.Thread(target=lambda: found.append(interrupts.is_one(SystemExit(1))))
    thread.start()
    thread.join()
    assert (found, interrupts.is_one(SystemExit(1))) == ([False], True)


def test_the_hard_limit_of_a_pool_of_greenlets_is_none_of_the_attempts(worker):
    limited = failing(None, time_limit=5)

    class Request:
        timelimit = [7, None]

    def is_limit(error):
        return interrupts.is_hard_limit(error, limited, Request)

    assert is_limit(Timeout(7)) and is_limit(Timeout(5))
    assert not is_limit(Timeout(1)) and not is_limit(OutOfPaper())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_whatever_ends_an_eager_run_its_row_has_ended_too(error):
    with pytest.raises(error):
        failing(error()).apply()
    assert (Run.objects.get().status, Run.objects.get().delivered) == (Status.FAILED, True)


def test_ctrl_c_at_a_wait_of_an_eager_run_ends_it(monkeypatch):
    @durable
    def sleeps():
        wait.sleep(days=1)

    pressed = SimpleNamespace(sleep=lambda _: raises(KeyboardInterrupt()))
    monkeypatch.setattr("workers.suspension.time", pressed)
    with pytest.raises(KeyboardInterrupt):
        sleeps.apply()
    assert Run.objects.get().status == Status.FAILED


def test_an_exception_with_seconds_that_are_none_is_no_limit():
    class Odd(BaseException):
        seconds = [1]

    task = SimpleNamespace(time_limit=1, app=SimpleNamespace(conf=SimpleNamespace(task_time_limit=None)))
    assert not interrupts.is_hard_limit(Odd(), task, SimpleNamespace(timelimit=None))
