"""Trying a step or rollback again: what earlier tries did stays done, and what failed in them is called again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.inprocess import Killed, durable
from triggerapp.engine import steps
from triggerapp.errors import StaleRun
from triggerapp.models import Run, Step
from workers import AbortRun, RetryPolicy, current_run, events, rollback, step, testing, wait
from workers.errors import RecordedError

ONCE = RetryPolicy(max_attempts=1)
NO_PAUSE = timedelta(0)
THRICE = RetryPolicy(max_attempts=3, min_delay=NO_PAUSE, max_delay=NO_PAUSE)
AT_ONCE = RetryPolicy(max_attempts=3, min_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))


class Calls(list[str]):
    """Parts of a step: each notes its call, and those that fail do so as often as they were told."""

    def __init__(self, **failures: int) -> None:
        super().__init__()
        self.failures = failures

    def part(self, name: str) -> str:
        self.append(name)
        if self.count(name) <= self.failures.get(name, 0):
            raise ValueError(f"{name} is not ready")
        return name


def parts(calls: Calls, *names: str) -> list[str]:
    return [step(calls.part, name) for name in names]


@pytest.fixture(params=["reentered", "in place"])
def finish(request, worker):
    """Run a task to its end: by a worker that suspends it, or in this process."""
    if request.param == "reentered":
        return lambda task: worker.until(task.trigger())

    def finish_in_place(task):
        with testing.skip_timers():
            return task.apply(throw=True).get()

    return finish_in_place


def test_only_the_part_that_failed_is_called_again(finish):
    calls = Calls(b=2)

    @durable(retry=ONCE)
    def purchase():
        return step(parts, calls, "a", "b", "c", key="ship", retry=THRICE)

    assert finish(purchase) == ["a", "b", "c"]
    assert calls == ["a", "b", "b", "b", "c"]
    assert list(Step.objects.filter(superseded=False).order_by("id").values_list("key", flat=True)) == [
        "ship/part#1",
        "ship/part#2",
        "ship/part#3",
        "ship",
    ]
    assert list(Step.objects.filter(superseded=True).values_list("key", flat=True)) == ["ship/part#2"] * 2


def test_a_failure_that_the_code_caught_stays_what_it_was(finish):
    calls = Calls(card=1, mail=1)

    def charge():
        try:
            paid = step(calls.part, "card")
        except ValueError:
            paid = step(calls.part, "other card")
        try:
            step(calls.part, "mail")
        except ValueError as error:
            raise ConnectionError("no mail") from error
        return paid

    @durable(retry=ONCE)
    def purchase():
        return step(charge, key="charge", retry=THRICE)

    assert finish(purchase) == "other card"
    assert calls == ["card", "other card", "mail", "mail"]


def test_a_run_and_an_event_of_an_earlier_try_are_not_sent_again(finish):
    calls = Calls(b=2)
    sent = []

    @durable
    def child():
        return None

    def notify():
        events.send("order/shipped", {"order": 1})
        sent.append(child.delay().id)
        return step(calls.part, "b")

    @durable(retry=ONCE)
    def purchase():
        return step(notify, key="notify", retry=THRICE)

    assert finish(purchase) == "b"
    assert Run.objects.filter(task=child.name).count() == 1
    assert Step.objects.filter(key="notify/send:order/shipped#1").count() == 1
    assert len(sent) == 3


def test_a_child_of_an_earlier_try_in_this_process_is_found_without_building_its_message_again(worker):
    calls, built = Calls(undo=2), []

    @durable
    def child():
        return None

    request_for = type(child).request_for
    type(child).request_for = lambda self, *a, **k: built.append(1) or request_for(self, *a, **k)

    def undo():
        child.delay()
        step(calls.part, "undo")

    @durable(retry=ONCE)
    def purchase():
        rollback(undo)
        raise AbortRun

    with pytest.raises(AbortRun):
        worker.until(purchase.trigger())
    assert (len(built), Run.objects.filter(task=child.name).count()) == (1, 1)


def test_a_try_after_the_worker_died_goes_on_with_what_was_done(worker):
    calls, died = Calls(b=1), []

    def ship():
        done = parts(calls, "a", "b", "c")
        if not died:
            died.append(True)
            raise Killed
        return done

    @durable(retry=ONCE)
    def purchase():
        return step(ship, key="ship", retry=AT_ONCE)

    run = purchase.trigger()
    for _ in range(3):
        worker.work()
        worker.die()
        worker.tick()
    assert worker.until(run) == ["a", "b", "c"]
    assert calls == ["a", "b", "b", "c"]


def test_the_next_attempt_calls_again_what_led_to_the_failure_although_it_was_recorded_before_a_wait(worker):
    calls = Calls(b=1)

    def ship():
        try:
            return parts(calls, "a", "b")
        except ValueError as error:
            raise ConnectionError("not shipped") from error

    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase():
        try:
            return step(ship, key="ship")
        except ConnectionError:
            wait.sleep(1)  # entered again: what is raised then is the record, without its causes
            raise

    assert worker.until(purchase.trigger()) == ["a", "b"]
    assert calls == ["a", "b", "b"]


def test_an_error_whose_class_is_gone_still_knows_what_led_to_it(worker):
    calls, raised = Calls(), []

    def fails():
        class Local(Exception):
            pass

        calls.append("fails")
        if not raised:
            raised.append(True)
            raise Local("not importable")
        return "done"

    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase():
        try:
            return step(lambda: step(fails), key="outer")
        except RecordedError:
            raise
        except Exception:
            wait.sleep(1)
            raise

    assert worker.until(purchase.trigger()) == "done"
    assert calls == ["fails", "fails"]


def test_the_parts_of_a_rollback_that_are_done_are_not_done_again(worker, monkeypatch):
    monkeypatch.setattr("workers.rollbacks.POLICY", AT_ONCE)
    calls = Calls(mail=2)

    @durable(retry=ONCE)
    def purchase():
        rollback(parts, calls, "refund", "mail")
        raise AbortRun

    run = purchase.trigger()
    with pytest.raises(AbortRun):
        worker.until(run)
    assert calls == ["refund", "mail", "mail", "mail"]
    assert "rollbacks_failed" not in run.refresh().error


def test_a_rollback_goes_on_after_its_worker_died(worker, monkeypatch):
    monkeypatch.setattr("workers.rollbacks.POLICY", AT_ONCE)
    calls, died = Calls(mail=1), []

    def undo():
        parts(calls, "refund", "mail")
        if not died:
            died.append(True)
            raise Killed
        step(calls.part, "close")

    @durable(retry=ONCE)
    def purchase():
        rollback(undo)
        raise AbortRun

    run = purchase.trigger()
    worker.work()
    worker.die()
    worker.tick()
    assert (run.status, calls) == ("FAILED", ["refund", "mail", "mail", "close"])


def failing(calls: Calls) -> str:
    return calls.part("a")


def test_each_attempt_has_all_tries_of_its_steps(worker):
    calls = Calls(a=5)

    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase():
        return step(failing, calls, retry=THRICE)

    assert worker.until(purchase.trigger()) == "a"
    assert len(calls) == 6


def test_a_run_that_is_retried_has_all_tries_of_the_step_that_failed(worker):
    calls = Calls(a=5)

    @durable(retry=ONCE)
    def purchase():
        return step(failing, calls, retry=THRICE)

    run = purchase.trigger()
    with pytest.raises(ValueError, match="not ready"):
        worker.until(run)
    assert len(calls) == 3
    run.retry()
    assert worker.until(run) == "a"
    assert len(calls) == 6


def test_a_step_within_a_step_has_its_tries_once_however_often_the_function_is_entered(finish):
    calls = Calls(a=9)

    @durable(retry=ONCE)
    def purchase():
        return step(lambda: step(failing, calls, retry=THRICE), key="outer")

    with pytest.raises(ValueError, match="not ready"):
        finish(purchase)
    assert len(calls) == 3


def test_each_try_of_a_step_has_all_tries_of_the_steps_within_it(finish):
    calls = Calls(a=8)

    @durable(retry=ONCE)
    def purchase():
        return step(lambda: step(failing, calls, retry=THRICE), key="outer", retry=THRICE)

    assert finish(purchase) == "a"
    assert len(calls) == 9


def test_the_key_for_third_parties_is_the_same_in_each_try(finish):
    seen = []

    def charge():
        seen.append(current_run().idempotency_key)
        if len(seen) < 3:
            raise ValueError

    @durable(retry=ONCE)
    def purchase():
        step(lambda: step(charge), key="outer", retry=THRICE)

    finish(purchase)
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_worker_that_lost_its_run_supersedes_nothing(worker):
    @durable(retry=ONCE)
    def purchase():
        try:
            step(lambda: 1 / 0, key="a")
        except ZeroDivisionError:
            wait.sleep(1)

    run = purchase.trigger()
    worker.work()
    row = run.refresh()
    with pytest.raises(StaleRun):
        steps.supersede(row.id, ["a"], lease=row.lease)
    assert not Step.objects.get().superseded
