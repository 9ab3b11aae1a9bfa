"""A worker that lost its run goes on for a while without knowing: nothing of what it does is written."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import everything, make_run, make_worker
from tests.inprocess import durable, messages
from triggerapp.engine import rescue, runs, verbs
from triggerapp.models import Run, Status, Step
from workers import current_run, events, identity, rollback, step, wait


@durable
def noop():
    pass


def nothing() -> None:
    """A step's work."""


WRITES = {
    "a step": lambda: step(nothing, key="late"),
    "a timer": lambda: wait.sleep(1),
    "an event wait": lambda: wait.for_event("paid"),
    "an event": lambda: events.send("paid", 7),
    "a token": lambda: wait.create_token(timeout=timedelta(1)),
    "a request": lambda: wait.for_request(lambda url: None),
    "a child": noop.trigger,
    "a child by delay": noop.delay,
    "an awaited child": noop.trigger_and_wait,
    "awaited children": lambda: noop.batch_trigger_and_wait([(), ()]),
    "metadata": lambda: current_run().set_metadata(a=1),
    "a result": lambda: None,
}


def taken_over() -> None:
    """Another worker rescues the run and claims it."""
    run = Run.objects.get(pk=current_run().id)
    rescue.rescue_lost([run.id], run.worker)
    runs.claim(run.id, run.lease, make_worker())


def canceled() -> None:
    verbs.cancel(Run.objects.get(pk=current_run().id).id)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("lose", [taken_over, canceled])
def test_a_late_write_leaves_everything_as_it_is(worker, lose, write):
    before = []

    @durable
    def purchase():
        step(nothing)
        lose()
        messages()
        before.append(everything())
        return write()

    purchase.trigger()
    worker.work()
    assert everything() == before[0]
    assert messages() == []


def test_a_late_failure_rolls_nothing_back(worker):
    undone = []

    @durable
    def purchase():
        step(nothing, rollback=lambda: undone.append(1))
        rollback(undone.append, 2)
        taken_over()
        raise ValueError("late")

    run = purchase.trigger()
    worker.work()
    assert (undone, run.status) == ([], "EXECUTING")


@pytest.mark.parametrize("write", list(WRITES.values())[:-1], ids=list(WRITES)[:-1])
def test_no_except_exception_lets_code_go_on_in_a_run_that_is_lost(worker, write):
    reached = []

    @durable
    def purchase():
        canceled()
        with contextlib.suppress(Exception):
            write()
        reached.append("went on")

    run = purchase.trigger()
    worker.work()
    assert (run.status, reached) == ("CANCELED", [])


@pytest.fixture
def late(worker, monkeypatch):
    """The worker's ticker has not beaten for longer than a lease."""

    def begin() -> None:
        identity.board().beat(time.monotonic() - 11)

    return begin


def test_no_step_begins_after_a_cancel_that_the_ticker_has_seen(worker):
    reached = []

    @durable
    def purchase():
        step(reached.append, 1)
        canceled()
        worker.ticker.tick()
        step(reached.append, 2)

    run = purchase.trigger()
    worker.work()
    assert (run.status, reached) == ("CANCELED", [1])


def test_no_step_begins_in_a_run_that_was_taken_over_while_its_worker_stood_still(worker, late):
    reached = []

    @durable
    def purchase():
        step(reached.append, 1)
        taken_over()
        late()
        step(reached.append, 2)

    run = purchase.trigger()
    worker.work()
    assert (run.status, reached) == ("EXECUTING", [1])


def test_a_worker_that_stood_still_and_lost_nothing_goes_on(worker, late):
    reached = []

    @durable
    def purchase():
        late()
        step(reached.append, 1)
        for other in (make_run(Status.RUNNING), make_run(Status.RUNNING)):
            identity.board().tell(other.id)
        step(reached.append, 2)

    run = purchase.trigger()
    worker.work()
    assert (run.status, reached) == ("COMPLETED", [1, 2])


def test_a_step_that_nothing_is_known_against_costs_one_statement(worker):
    seen = []

    @durable
    def purchase():
        identity.board().beat(time.monotonic())
        with CaptureQueriesContext(connection) as queries:
            step(nothing)
        seen.extend(queries)

    purchase.trigger()
    worker.work()
    assert [each["sql"].split()[0] for each in seen] == ["INSERT"]


def test_code_that_catches_the_news_begins_no_further_step(worker):
    reached = []

    @durable
    def purchase():
        canceled()
        for n in range(3):
            with contextlib.suppress(BaseException):
                step(reached.append, n)
        return "went on"

    run = purchase.trigger()
    worker.work()
    assert (run.status, Step.objects.count(), reached) == ("CANCELED", 0, [0])
