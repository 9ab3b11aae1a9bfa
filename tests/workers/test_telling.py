"""Ends that cannot be told at once: each is told later, once, and never as another end."""

from __future__ import annotations

import pytest
from celery import signals
from redis.exceptions import ConnectionError as RedisDown

from tests.inprocess import app, durable, forward
from triggerapp.models import Run, Status
from workers import RetryPolicy

ONCE = RetryPolicy(max_attempts=1)
heard: list[str] = []


@app.task(name="tests.errback")
def errback(request, exc, traceback):
    heard.append(repr(exc))


@durable
def follower(value):
    heard.append(value)


@pytest.fixture
def failures():
    """What Celery is told of failed tasks."""
    told = []

    def hear(exception, **_):
        told.append(repr(exception))

    signals.task_failure.connect(hear)
    heard.clear()
    yield told
    signals.task_failure.disconnect(hear)


@pytest.fixture
def results_down(monkeypatch):
    """Have the result backend fail the next so many times it is to store this state."""
    store, left = app.backend.store_result, {}

    def fail(state, times=1):
        left[state] = times

    def store_result(task_id, result, state, *args, **options):
        if left.get(state):
            left[state] -= 1
            raise RedisDown("the result backend is down")
        return store(task_id, result, state, *args, **options)

    monkeypatch.setattr(app.backend, "store_result", store_result)
    return fail


def state_of(run):
    return app.AsyncResult(run.task_id).state


def test_a_run_that_completed_while_results_could_not_be_stored_is_told_later_and_never_as_failed(
    worker, failures, results_down
):
    @durable(retry=ONCE)
    def purchase():
        return "paid"

    results_down("SUCCESS")
    run = purchase.with_options(link_error=errback.s()).trigger()
    worker.work()
    assert (Run.objects.get().status, Run.objects.get().delivered, state_of(run)) == (
        Status.COMPLETED,
        False,
        "PENDING",
    )
    assert worker.until(run) == "paid"
    later(worker)
    assert (state_of(run), failures, heard) == ("SUCCESS", [], [])


def test_what_follows_a_run_is_sent_once_although_its_end_is_told_again(worker, failures, monkeypatch):
    @durable(retry=ONCE)
    def purchase():
        return "paid"

    def refuse(key):
        raise RedisDown("the result backend is down")

    run = purchase.with_options(link=follower.s()).trigger()
    with monkeypatch.context() as down:
        down.setattr(app.backend, "get", refuse)
        worker.work()
        later(worker)
    assert heard == []
    later(worker, hours=10)
    assert (state_of(run), heard, failures) == ("SUCCESS", ["paid"], [])


def test_a_failure_that_could_not_be_stored_is_told_later_once(worker, failures, results_down):
    @durable(retry=ONCE)
    def purchase():
        raise ValueError("sold out")

    results_down("FAILURE")
    run = purchase.with_options(link_error=errback.s()).trigger()
    worker.work()
    assert (Run.objects.get().status, Run.objects.get().delivered, failures) == (Status.FAILED, False, [])
    later(worker)
    assert (state_of(run), failures, heard) == ("FAILURE", ["ValueError('sold out')"], ["ValueError('sold out')"])
    assert Run.objects.get().delivered


def test_an_attempt_whose_retry_could_not_be_told_is_no_failure(worker, failures, results_down):
    tries = []

    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("busy")
        return "paid"

    results_down("RETRY")
    run = purchase.with_options(link_error=errback.s()).trigger()
    worker.work()
    assert (worker.until(run), failures, heard) == ("paid", [], [])


def test_a_start_that_could_not_be_noted_is_no_failure_of_a_run_that_is_still_to_come(worker, failures, results_down):
    @durable(retry=ONCE, track_started=True)
    def purchase():
        return "paid"

    results_down("STARTED")
    run = purchase.trigger()
    worker.work()
    assert (Run.objects.get().status, failures) == (Status.QUEUED, [])
    assert (worker.until(run), failures) == ("paid", [])


def test_a_run_whose_end_was_not_recorded_is_not_told_as_failed(worker, failures, monkeypatch):
    @durable(retry=ONCE)
    def purchase():
        return "paid"

    def refuse(*_, **__):
        raise RuntimeError("a bug of ours")

    run = purchase.trigger()
    with monkeypatch.context() as broken:
        broken.setattr("triggerapp.engine.runs.complete", refuse)
        worker.work()
    assert (Run.objects.get().status, failures, state_of(run)) == (Status.RUNNING, [], "PENDING")


def test_a_memory_error_of_a_task_does_not_end_the_worker_and_is_told_once(worker, failures):
    @durable(retry=ONCE)
    def purchase():
        raise MemoryError("too much")

    run = purchase.with_options(link_error=errback.s()).trigger()
    worker.work()
    later(worker)
    assert (state_of(run), failures, heard) == ("FAILURE", ["MemoryError('too much')"], ["MemoryError('too much')"])
    assert (Run.objects.get().status, Run.objects.get().delivered) == (Status.FAILED, True)


def later(worker, hours=1):
    forward(hours=hours)
    worker.beat()
    worker.tick()
