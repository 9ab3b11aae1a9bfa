"""A step's result is recorded once and never changes; a recorded step never runs again."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.factories import make_step
from tests.inprocess import Killed, durable, forward
from triggerapp.models import Run, Status, Step, Wait
from workers import AbortRun, RetryPolicy, current_run, events, step, wait
from workers.errors import JournalMismatch, KeyTaken, RunContextLost

ONCE = RetryPolicy(max_attempts=1)
PAUSE = timedelta(minutes=5)
DURABLY = RetryPolicy(max_attempts=3, min_delay=PAUSE, max_delay=2 * PAUSE, jitter=False)


@dataclass
class Seat:
    row: int


class Flaky:
    """Fails so many times, then returns how often it was called."""

    __name__ = "flaky"

    def __init__(self, failures: int, error: Exception | BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or ValueError("not yet")
        self.calls: list[tuple[object, ...]] = []

    def __call__(self, *args: object) -> int:
        self.calls.append(args)
        if len(self.calls) <= self.failures:
            raise self.error
        return len(self.calls)


def keys() -> list[str]:
    return list(Step.objects.order_by("id").values_list("key", flat=True))


# --- once -----------------------------------------------------------------------------------------


def test_a_step_runs_once_over_all_entries_and_its_value_comes_back(worker):
    reserve = Flaky(0)

    @durable
    def purchase(ticket):
        seat = step(reserve, ticket)
        wait.sleep(days=2)
        wait.sleep(days=2)
        return seat

    assert worker.until(purchase.trigger("t1")) == 1
    assert reserve.calls == [("t1",)]
    assert keys() == ["flaky#1"]


def test_values_come_back_as_what_they_were(worker):
    @durable
    def purchase():
        seat = step(lambda: Seat(4), key="seat")
        wait.sleep(1)
        return [type(seat).__name__, seat.row]

    assert worker.until(purchase.trigger()) == ["Seat", 4]


def test_a_step_whose_worker_dies_runs_again_and_those_before_it_do_not(worker):
    first, second = Flaky(0), Flaky(1, Killed())

    @durable
    def purchase():
        return step(first, key="a") + step(second, key="b")

    run = purchase.trigger()
    worker.work()
    assert run.status == "EXECUTING"
    worker.die()
    worker.tick()
    assert run.get(timeout=0) == 3
    assert (len(first.calls), len(second.calls)) == (1, 2)


def test_the_same_function_is_another_step_each_time(worker):
    double = Flaky(0)

    @durable
    def purchase():
        return [step(double, n) for n in range(3)]

    assert worker.until(purchase.trigger()) == [1, 2, 3]
    assert keys() == ["flaky#1", "flaky#2", "flaky#3"]


def test_a_decorated_function_is_a_step_inside_a_run_and_a_plain_call_outside(worker):
    calls = []

    @step
    def reserve(ticket, *, row=1):
        calls.append((ticket, row))
        return row

    @durable
    def purchase():
        reserve("t1", row=7)
        wait.sleep(1)
        return reserve("t2")

    assert worker.until(purchase.trigger()) == 1
    assert reserve("outside") == 1
    assert calls == [("t1", 7), ("t2", 1), ("outside", 1)]
    assert keys() == ["reserve#1", "reserve#2"]
    assert reserve.__name__ == "reserve"


def test_steps_within_a_step_are_recorded_too_and_run_once_if_the_outer_one_dies(worker):
    inner, outer_died = Flaky(0), []

    def ship():
        step(inner, "label")
        if not outer_died:
            outer_died.append(True)
            raise Killed
        return "shipped"

    @durable
    def purchase():
        return step(ship, key="ship")

    run = purchase.trigger()
    worker.work()
    worker.die()
    worker.tick()
    assert run.get(timeout=0) == "shipped"
    assert len(inner.calls) == 1
    assert keys() == ["ship/flaky#1", "ship"]


def test_each_step_has_a_key_for_third_parties_that_stays_over_all_its_tries(worker):
    seen = []

    def charge():
        seen.append(current_run().idempotency_key)
        if len(seen) < 3:
            raise ValueError
        return "ok"

    @durable
    def purchase():
        return step(charge, key="charge", retry=DURABLY)

    run = purchase.trigger()
    assert worker.until(run) == "ok"
    assert set(seen) == {f"{run.id}:charge"}


# --- threads and loops ----------------------------------------------------------------------------


def test_threads_that_carry_the_run_keep_identity_by_key(worker):
    calls = []

    def print_label(parcel):
        calls.append(parcel)
        return f"label {parcel}"

    @durable
    def ship(parcels):
        with ThreadPoolExecutor(4) as pool:
            started = [
                pool.submit(copy_context().run, step, print_label, parcel, key=f"print:{parcel}") for parcel in parcels
            ]
            labels = [each.result() for each in started]
        wait.sleep(1)
        return labels

    assert worker.until(ship.trigger([1, 2, 3])) == ["label 1", "label 2", "label 3"]
    assert sorted(calls) == [1, 2, 3]


def test_a_thread_without_the_run_belongs_to_the_only_run_of_its_process(worker):
    @durable
    def ship():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(step, Flaky(0), key="a").result()

    assert worker.until(ship.trigger()) == 1
    assert keys() == ["a"]


def test_where_a_process_has_several_runs_such_a_thread_is_told_what_to_do(monkeypatch):
    from workers import context

    monkeypatch.setattr(context, "_active", [object(), object()])
    with pytest.raises(RunContextLost, match=r"copy_context\(\)\.run"):
        step(Flaky(0), 1)


def test_a_loop_over_a_set_keeps_identity_by_key(worker):
    orders = [["a", "b", "c"], ["c", "a", "b"]]
    calls = Flaky(0)

    @durable
    def ship():
        found = {name: step(calls, name, key=f"ship:{name}") for name in orders.pop()}
        wait.sleep(1)
        return found

    assert worker.until(ship.trigger()) == {"c": 1, "a": 2, "b": 3}
    assert len(calls.calls) == 3


# --- exceptions -----------------------------------------------------------------------------------


class SoldOut(Exception):
    def __init__(self, ticket):
        super().__init__(ticket)
        self.ticket = ticket


def test_an_exception_is_recorded_and_raised_again_with_its_traceback(worker):
    raised = []

    def reserve(ticket):
        raised.append(ticket)
        raise SoldOut(ticket)

    @durable
    def purchase(ticket):
        try:
            step(reserve, ticket)
        except SoldOut as error:
            wait.sleep(1)
            return [error.ticket, "".join(traceback.format_exception(error))]
        return None

    ticket, text = worker.until(purchase.trigger("t1"))
    assert (ticket, raised) == ("t1", ["t1"])
    assert "in reserve" in text
    assert "raise SoldOut(ticket)" in text


def test_a_step_is_tried_again_as_its_policy_says_with_the_run_suspended_in_between(worker):
    charge = Flaky(2)

    @durable(retry=ONCE)
    def purchase():
        return step(charge, 1, retry=DURABLY)

    run = purchase.trigger()
    worker.work()
    assert (run.status, len(charge.calls)) == ("WAITING", 1)
    assert Wait.objects.get().key == "flaky#1:retry#1.1"
    forward(minutes=5)
    worker.beat()
    worker.tick()
    assert (run.status, len(charge.calls)) == ("WAITING", 2)
    forward(minutes=10)
    worker.beat()
    worker.tick()
    assert run.get(timeout=0) == 3
    assert keys() == ["flaky#1"]


def test_when_its_tries_are_used_up_the_last_exception_is_recorded(worker):
    charge = Flaky(9)

    @durable(retry=ONCE)
    def purchase():
        return step(charge, 1, retry=DURABLY)

    with pytest.raises(ValueError, match="not yet"):
        worker.until(purchase.trigger())
    assert len(charge.calls) == 3
    assert Step.objects.get().error is not None


@pytest.mark.parametrize("error", [AbortRun("sold out"), KeyError("other")])
def test_what_the_policy_does_not_want_is_not_tried_again(worker, error):
    charge = Flaky(9, error)

    @durable(retry=ONCE)
    def purchase():
        return step(charge, 1, retry=RetryPolicy(retry_on=(ValueError, AbortRun)))

    with pytest.raises(type(error)):
        worker.until(purchase.trigger())
    assert len(charge.calls) == 1


def test_the_next_attempt_makes_the_failed_call_again_and_no_other(worker):
    reserve, charge = Flaky(0), Flaky(1)

    @durable(retry=DURABLY)
    def purchase():
        step(reserve, key="reserve")
        return step(charge, key="charge")

    run = purchase.trigger()
    assert worker.until(run) == 2
    assert (len(reserve.calls), run.refresh().attempt) == (1, 2)
    assert Step.objects.filter(key="charge", superseded=True).count() == 1


# --- other code under a recorded step -------------------------------------------------------------


def test_other_arguments_under_a_recorded_step_are_an_error_that_names_the_ways_out(worker):
    price = [1, 2]

    @durable(retry=ONCE)
    def purchase():
        step(Flaky(0), price.pop())
        wait.sleep(1)

    run = purchase.trigger()
    with pytest.raises(JournalMismatch) as caught:
        worker.until(run)
    recorded, now = caught.value.recorded, caught.value.current
    assert f"step flaky#1 was recorded with other arguments (digest {recorded}, now {now})" in str(caught.value)
    assert "`key=`" in str(caught.value)
    assert "replay the run" in str(caught.value)
    assert recorded != now


def one_after_another():
    step(Flaky(0), 1, key="charge")
    step(Flaky(0), 2, key="charge")


def in_two_threads():
    def charge(seat):
        return step(Flaky(0), seat, key="charge")

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(copy_context().run, charge, seat) for seat in (1, 2)]:
            future.result()


def for_two_events():
    wait.for_event("paid", key="charge")
    wait.for_event("shipped", key="charge")


@pytest.mark.parametrize("body", [one_after_another, in_two_threads, for_two_events])
def test_two_calls_of_one_key_are_told_apart_from_changed_code(worker, body):
    @durable(retry=ONCE)
    def purchase():
        body()

    run = purchase.trigger()
    worker.work()
    events.send("paid", {})
    with pytest.raises(KeyTaken, match="the key charge is used a second time, for another call") as caught:
        worker.until(run)
    assert "a key of its own" in str(caught.value)


def test_two_steps_of_one_key_and_equal_arguments_are_one_and_a_wait_may_share_it(worker):
    charge = Flaky(0)

    @durable(retry=ONCE)
    def purchase():
        wait.sleep(1, key="charge")
        return [step(charge, 1, key="charge") for _ in range(2)]

    run = purchase.trigger()
    worker.work()
    forward(seconds=2)
    assert worker.until(run) == [1, 1]
    assert len(charge.calls) == 1


def test_a_step_that_this_run_has_recorded_already_is_never_written_again(worker):
    @durable
    def purchase():
        return step(Flaky(0), 1)

    run = purchase.trigger()
    row = Run.objects.get(pk=run.id)
    make_step(row, "other#1")
    worker.until(run)
    assert Run.objects.get().status == Status.COMPLETED
    assert keys() == ["other#1", "flaky#1"]


def test_a_retry_that_is_no_policy_is_refused_before_the_step_is_called():
    with pytest.raises(TypeError, match=r"step\(retry=5\): it takes a RetryPolicy"):
        step(print, retry=5)  # type: ignore[call-overload]
