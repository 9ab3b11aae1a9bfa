"""Runs that trigger runs: once over all entries, awaited or not, one or many."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kombu.exceptions import EncodeError

from tests.inprocess import Killed, durable, messages
from triggerapp.models import Run, Status, Wait
from workers import AbortRun, RetryPolicy, RunHandle, wait
from workers.errors import ChildFailed, NotInRun

ONCE = RetryPolicy(max_attempts=1)


@durable(retry=ONCE)
def double(number):
    if number < 0:
        raise SoldOut(number)
    return 2 * number


class SoldOut(Exception):
    """Of this module, so that it can be had back."""


def test_a_parent_gets_what_its_child_returned_and_holds_no_worker_meanwhile(worker):
    @durable
    def parent():
        result = double.trigger_and_wait(4)
        return [result.ok, result.output, result.unwrap()]

    run = parent.trigger()
    assert worker.until(run) == [True, 8, 8]
    child = Run.objects.get(parent=run.id)
    assert (child.root_id, child.parent_key) == (child.parent_id, "runs:" + double.name + "#1[0]")
    assert Wait.objects.get().name == double.name


def test_a_batch_comes_back_in_order_with_each_result_on_its_own(worker):
    @durable
    def parent():
        results = double.batch_trigger_and_wait([(1,), (-1,), (3,)])
        return [result.output if result.ok else result.error["type"] for result in results]

    assert worker.until(parent.trigger()) == [2, f"{__name__}:SoldOut", 6]


def test_a_batch_of_nothing_waits_for_nothing(worker):
    @durable
    def parent():
        return double.batch_trigger_and_wait([])

    assert worker.until(parent.trigger()) == []
    assert not Wait.objects.exists()


def test_unwrapping_a_failed_child_raises_its_own_exception_and_names_the_run(worker):
    @durable(retry=ONCE)
    def parent():
        try:
            double.trigger_and_wait(-1).unwrap()
        except SoldOut as error:
            return [error.args[0], type(error.__cause__).__name__, error.__cause__.run_id]

    number, cause, child = worker.until(parent.trigger())
    assert (number, cause, child) == (-1, "ChildFailed", str(Run.objects.get(task=double.name).id))


def test_unwrapping_a_canceled_child_says_how_it_ended(worker):
    @durable(retry=ONCE)
    def parent():
        return double.trigger_and_wait(1).unwrap()

    run = parent.trigger()
    (message,) = messages()
    worker._take(message)
    child = Run.objects.get(task=double.name)
    RunHandle(id=str(child.id), task_id=child.task_id).cancel()
    with pytest.raises(ChildFailed, match="canceled"):
        worker.until(run)


def test_a_run_that_is_triggered_inside_a_run_is_triggered_once_over_all_entries(worker):
    handles = []

    @durable
    def parent():
        handles.append(double.trigger(1))
        handles.append(double.delay(2))
        wait.sleep(days=1)

    worker.until(parent.trigger())
    assert len(handles) == 4
    assert handles[0].id == handles[2].id
    assert handles[1].id == handles[3].id
    assert Run.objects.filter(task=double.name, status=Status.COMPLETED).count() == 2


def test_a_worker_that_dies_after_triggering_triggers_no_second_child(worker):
    died = []

    @durable
    def parent():
        child = double.trigger(1)
        if not died:
            died.append(True)
            raise Killed
        return child.id

    run = parent.trigger()
    worker.work()
    worker.die()
    worker.tick()
    assert run.get(timeout=0) == str(Run.objects.get(task=double.name).id)


def test_a_key_within_a_run_is_the_runs_own_unless_it_says_global(worker):
    @durable
    def parent(scope):
        return double.with_options(idempotency_key="k", idempotency_scope=scope).trigger(1).id

    own = [worker.until(parent.trigger("run")) for _ in range(2)]
    shared = [worker.until(parent.trigger("global")) for _ in range(2)]
    assert own[0] != own[1]
    assert shared[0] == shared[1]


def test_canceling_a_parent_cancels_what_it_waits_for(worker):
    @durable
    def slow():
        wait.sleep(days=1)

    @durable
    def parent():
        slow.trigger_and_wait()

    run = parent.trigger()
    worker.work()
    run.cancel(actor="ada")
    assert set(Run.objects.values_list("status", flat=True)) == {Status.CANCELED}


def test_children_of_children_wake_each_other_up(worker):
    @durable
    def middle(n):
        return double.trigger_and_wait(n).unwrap() + 1

    @durable
    def parent():
        return sum(result.unwrap() for result in middle.batch_trigger_and_wait([(1,), (2,)]))

    assert worker.until(parent.trigger()) == 8
    assert Run.objects.exclude(parent=None).values("root").distinct().count() == 1


def test_a_child_has_options_of_its_own(worker):
    @durable
    def parent():
        return double.with_options(tags=["vip"], delay=timedelta(hours=1)).trigger_and_wait(1).unwrap()

    run = parent.trigger()
    worker.work()
    child = Run.objects.get(task=double.name)
    assert (child.status, child.tags) == (Status.PENDING, ["vip"])
    assert worker.until(run) == 2


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("call", [lambda: double.trigger_and_wait(1), lambda: double.batch_trigger_and_wait([(1,)])])
def test_waiting_for_runs_outside_of_a_run_is_refused_and_triggers_nothing(call):
    with pytest.raises(NotInRun, match="trigger_and_wait was called outside a run"):
        call()
    assert not Run.objects.exists()


def test_a_batch_outside_of_runs_is_all_or_none(worker):
    assert [handle.status for handle in double.batch_trigger([(1,), (2,)])] == ["QUEUED", "QUEUED"]
    with pytest.raises(EncodeError, match="not JSON serializable"):
        double.batch_trigger([(1,), (object(),)])
    assert Run.objects.count() == 2


def test_a_child_that_aborts_is_a_result_like_any_other(worker):
    @durable
    def aborts():
        raise AbortRun("enough")

    @durable
    def parent():
        return aborts.trigger_and_wait().error["message"]

    assert worker.until(parent.trigger()) == "enough"
