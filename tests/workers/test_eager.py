"""Eager runs: `apply()` and `task_always_eager` run in place, journal included; waits resolve in place too."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.inprocess import app, durable, messages
from triggerapp.engine import events as engine_events
from triggerapp.errors import BadInput
from triggerapp.models import Run, Status, Step, Wait
from workers import AbortRun, RetryPolicy, current_run, events, rollback, step, wait
from workers.errors import JournalMismatch, WaitTimeout
from workers.testing import skip_timers

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def always_eager():
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


@durable
def double(number):
    return step(lambda: 2 * number, key="double")


def test_apply_runs_in_place_and_leaves_a_run_with_its_journal():
    assert double.apply((4,)).get() == 8
    run = Run.objects.get()
    assert (run.status, run.is_eager, run.delivered) == (Status.COMPLETED, True, True)
    assert Step.objects.get().key == "double"
    assert messages() == []


def test_a_short_timer_is_slept_out_for_real():
    @durable
    def naps():
        started = time.monotonic()
        wait.sleep(0.2)
        return time.monotonic() - started

    assert naps.apply().get() >= 0.2


def test_a_test_may_skip_the_timers():
    @durable
    def sleeps():
        wait.sleep(days=365)
        return "rested"

    with skip_timers():
        assert sleeps.apply().get() == "rested"
    assert Wait.objects.get().resolved_by == "skip_timers"


def test_an_event_from_elsewhere_resolves_the_wait_in_place():
    @durable
    def purchase():
        return wait.for_event("paid").payload

    def send():
        from django.db import connection

        while not Wait.objects.exists():
            time.sleep(0.02)
        engine_events.emit("paid", json.dumps(7))
        connection.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert purchase.apply().get() == 7
    sender.join()


def test_an_event_that_was_sent_before_is_there_at_once():
    events.send("paid", 7)

    @durable
    def purchase():
        return wait.for_event("paid").payload

    assert purchase.apply().get() == 7


def test_a_wait_that_times_out_raises_in_place():
    from datetime import timedelta

    @durable
    def purchase():
        with pytest.raises(WaitTimeout):
            wait.for_event("paid", timeout=timedelta(milliseconds=50))
        return "gave up"

    assert purchase.apply().get() == "gave up"


def test_a_failure_rolls_back_and_is_the_results(caplog):
    done = []

    @durable
    def purchase():
        step(done.append, "reserve", rollback=lambda what: done.append(f"undo {what}"))
        rollback(done.append, "undo charge")
        raise AbortRun("sold out")

    with pytest.raises(AbortRun, match="sold out"):
        purchase.apply().get()
    assert done == ["reserve", "undo charge", "undo reserve"]
    assert Run.objects.get().status == Status.FAILED


def test_an_eager_run_is_not_tried_again_by_us():
    tries = []

    @durable(retry=RetryPolicy(max_attempts=3))
    def purchase():
        tries.append(1)
        raise ValueError

    assert purchase.apply().state == "FAILURE"
    assert len(tries) == 1


def test_always_eager_makes_every_call_one_in_place(always_eager):
    assert double.delay(4).get() == 8
    assert double.apply_async((4,), countdown=3600).get() == 8
    handle = double.trigger(4)
    assert (handle.status, handle.get()) == ("COMPLETED", 8)
    assert [each.get() for each in double.batch_trigger([(1,), (2,)])] == [2, 4]


def test_our_options_are_understood_in_eager_calls_too(always_eager):
    assert double.apply_async((4,), tags=["vip"], idempotency_key="k").get() == 8


@pytest.mark.parametrize("option", [{"tags": "x"}, {"max_duration": 5}, {"metadata": []}], ids=str)
def test_our_options_are_checked_in_eager_calls_too(always_eager, option):
    with pytest.raises(BadInput):
        double.apply_async((4,), **option)


def test_children_of_an_eager_run_are_eager(always_eager):
    @durable
    def parent():
        one = double.trigger_and_wait(1).unwrap()
        return [one, *(result.output for result in double.batch_trigger_and_wait([(2,), (3,)]))]

    assert parent.apply().get() == [2, 4, 6]
    assert set(Run.objects.values_list("status", flat=True)) == {Status.COMPLETED}


def test_a_failed_child_of_an_eager_run_is_a_result(always_eager):
    @durable
    def fails():
        raise AbortRun("no")

    @durable
    def parent():
        return fails.trigger_and_wait().ok

    assert parent.apply().get() is False


def test_an_eager_run_knows_itself():
    @durable
    def purchase():
        return current_run().id

    result = purchase.apply()
    assert result.get() == result.id == str(Run.objects.get().id)


def test_an_eager_run_works_inside_a_transaction_where_it_is_not_left():
    from django.db import transaction

    @durable
    def purchase():
        with transaction.atomic():
            with skip_timers():
                wait.sleep(1)
            return step(lambda: 1, key="a")

    assert purchase.apply().get() == 1


def test_a_key_that_the_try_before_used_is_not_told_as_used_twice():
    seats = [1, 2]

    def booking():
        step(print, seats.pop(), key="hold")
        raise ValueError("no seat")

    @durable(retry=RetryPolicy(max_attempts=1))
    def purchase():
        step(booking, retry=RetryPolicy(max_attempts=3))

    with skip_timers(), pytest.raises(JournalMismatch, match="was recorded with other arguments"):
        purchase.apply().get()
