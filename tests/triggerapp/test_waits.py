"""A wait resolves once: value, timeout or cancel; the first committed wins."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import OperationalError

from tests.factories import (
    fresh,
    make_event_wait,
    make_run,
    make_trigger,
    make_wait,
    make_waiting,
    timer,
)
from tests.inprocess import at_once, forward, messages
from triggerapp.clock import now
from triggerapp.engine import events, queues, rescue, runs, timeouts, tokens, triggers, verbs, waits, wakes
from triggerapp.engine.waits import Opening, Resolution, Suspended
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import Run, Status, Wait, WaitKind, WaitStatus
from workers.patience import patiently

pytestmark = pytest.mark.usefixtures("database")


def children_of(run: Run, count: int, **fields) -> tuple[Wait, list[Run]]:
    """Suspend the run on new children."""
    requests = [make_trigger(parent=run.id, parent_key=f"runs#1[{n}]", **fields) for n in range(count)]
    waits.suspend(run.id, Opening(key="runs#1", kind=WaitKind.RUNS, children=requests), lease=run.lease)
    return Wait.objects.get(run=run), list(Run.objects.filter(parent=run).order_by("parent_key"))


def run_to(child: Run, status: Status = Status.COMPLETED) -> None:
    claimed = runs.claim(child.id, fresh(child).lease, uuid4())
    if status == Status.COMPLETED:
        runs.complete(child.id, lease=claimed.lease, result=b"1", result_type="application/json")
    else:
        runs.fail(child.id, lease=claimed.lease, error={"message": "no"}, status=status)


# --- timers ---------------------------------------------------------------------------------------


def test_a_run_that_sleeps_holds_no_worker_and_wakes_when_it_is_due():
    run = make_run(Status.RUNNING)
    waits.suspend(run.id, timer(timedelta(days=2)), lease=1)
    assert (fresh(run).status, wakes.expire_due(), wakes.wake()) == (Status.WAITING, [], 0)
    forward(days=2)
    due = wakes.expire_due()
    assert wakes.wake(due) == 1
    assert fresh(run).status == Status.QUEUED
    assert [message.headers["triggerapp"]["lease"] for message in messages()] == [1]


def test_a_timer_may_end_at_a_moment_instead_of_after_a_time():
    run = make_run(Status.RUNNING)
    waits.suspend(run.id, Opening(key="until#1", kind=WaitKind.TIMER, deadline=now() - timedelta(1)), lease=1)
    assert wakes.wake(wakes.expire_due()) == 1


def test_a_timer_that_ends_is_resolved_but_an_event_wait_has_timed_out():
    slept, waited = make_wait(make_run(Status.WAITING)), make_waiting("paid", expires_at=now())
    Wait.objects.filter(pk=slept.pk).update(expires_at=now())
    wakes.expire_due()
    assert (fresh(slept).status, fresh(waited).status) == (WaitStatus.RESOLVED, WaitStatus.TIMED_OUT)


def test_a_suspended_run_computes_nothing_meanwhile():
    run = make_run(Status.RUNNING)
    forward(seconds=5)
    waits.suspend(run.id, timer(), lease=1)
    forward(days=1)
    wakes.wake(wakes.expire_due())
    assert timedelta(seconds=5) <= fresh(run).computed < timedelta(seconds=8)


def test_the_ticker_knows_when_the_next_deadline_is():
    assert wakes.next_deadline() is None
    make_wait(make_run(Status.WAITING), expires_at=now() + timedelta(hours=2))
    make_run(Status.PENDING, due_at=now() + timedelta(hours=1))
    assert wakes.next_deadline() == pytest.approx(3600, abs=5)


# --- resolving once -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [WaitStatus.RESOLVED, WaitStatus.TIMED_OUT, WaitStatus.CANCELED])
def test_whoever_comes_after_the_first_changes_nothing(first: WaitStatus):
    wait = make_waiting("paid", status=first, value='"first"', expires_at=now())
    before = Wait.objects.filter(pk=wait.pk).values().get()
    assert waits.resolve(wait.pk, '"second"') is False
    events.emit("paid", "{}")
    wakes.expire_due()
    wakes.expire_one(wait.pk)
    assert Wait.objects.filter(pk=wait.pk).values().get() == before


@pytest.mark.slow
def test_of_event_timeout_and_cancel_at_once_exactly_one_wins():
    for _ in range(15):
        run = make_run(Status.WAITING)
        wait = make_event_wait(run, "paid", expires_at=now())
        at_once(lambda: events.emit("paid", "{}"), wakes.expire_due, partial(verbs.cancel, run.id))
        wakes.wake()
        wait, run = fresh(wait), fresh(run)
        assert wait.status != WaitStatus.PENDING
        assert (wait.value is not None) == (wait.status == WaitStatus.RESOLVED)
        assert run.status == Status.CANCELED or run.status == Status.QUEUED


def test_a_wake_that_was_missed_is_found_by_a_tick():
    run = make_run(Status.WAITING)
    wait = make_wait(run)
    Wait.objects.filter(pk=wait.pk).update(status=WaitStatus.RESOLVED)  # resolved; its resolver died before the wake
    assert wakes.wake() == 1
    assert fresh(run).status == Status.QUEUED
    assert fresh(wait).woken


def test_a_run_is_woken_once_however_often_one_asks():
    make_wait(make_run(Status.WAITING), status=WaitStatus.RESOLVED)
    assert sum(at_once(*[wakes.wake] * 4)) == 1
    assert len(messages()) == 1


def test_a_run_that_wakes_on_a_paused_queue_stays_pending_until_the_queue_goes_on():
    run = make_run(Status.WAITING, queue="slow")
    make_wait(run, status=WaitStatus.RESOLVED)
    queues.set_paused(run.environment_id, "slow", paused=True)
    wakes.wake()
    assert fresh(run).status == Status.PENDING
    queues.set_paused(run.environment_id, "slow", paused=False)
    assert fresh(run).status == Status.QUEUED


def test_a_rescued_run_waits_on_the_wait_it_had_opened():
    run = make_run(Status.RUNNING)
    wait = make_event_wait(run, "paid")
    assert waits.suspend_again(run.id, wait.pk, lease=1) == Suspended(wait=wait.pk)
    assert fresh(run).waiting_on == wait.pk


def test_a_rescued_run_whose_wait_has_resolved_goes_on_at_once():
    run = make_run(Status.RUNNING)
    wait = make_event_wait(run, "paid")
    events.emit("paid", '{"id": 7}')
    resolution = waits.suspend_again(run.id, wait.pk, lease=1)
    assert isinstance(resolution, Resolution)
    assert json.loads(resolution.value)["payload"] == {"id": 7}
    assert fresh(run).status == Status.RUNNING


# --- children -------------------------------------------------------------------------------------


def test_a_parent_wakes_with_its_last_child_and_not_before():
    run = make_run(Status.RUNNING)
    wait, children = children_of(run, 3)
    for child in children[:2]:
        run_to(child)
    assert (fresh(wait).remaining, fresh(run).status) == (1, Status.WAITING)
    run_to(children[2], Status.FAILED)
    assert (fresh(wait).status, fresh(run).status) == (WaitStatus.RESOLVED, Status.QUEUED)
    assert json.loads(fresh(wait).value) == [str(child.id) for child in children]


def test_children_that_end_at_once_are_each_counted_once():
    run = make_run(Status.RUNNING)
    wait, children = children_of(run, 8)
    at_once(*[lambda child=child: run_to(child) for child in children])
    assert (fresh(wait).remaining, fresh(run).status) == (0, Status.QUEUED)


def test_every_way_for_a_child_to_end_tells_its_parent():
    def crash(child):
        Run.objects.filter(pk=child.pk).update(crashes=9)
        worker = uuid4()
        runs.claim(child.id, 0, worker)
        rescue.rescue_lost([child.id], worker)

    def expire(child):
        Run.objects.filter(pk=child.pk).update(expires_at=now())
        rescue.expire()

    ways = {
        Status.COMPLETED: run_to,
        Status.FAILED: lambda child: run_to(child, Status.FAILED),
        Status.TIMED_OUT: lambda child: run_to(child, Status.TIMED_OUT),
        Status.CRASHED: crash,
        Status.EXPIRED: expire,
        Status.CANCELED: lambda child: verbs.cancel(child.id),
    }
    for status, end in ways.items():
        run = make_run(Status.RUNNING)
        wait, (child,) = children_of(run, 1)
        end(child)
        assert (fresh(child).status, fresh(wait).status, fresh(run).status) == (status, "resolved", Status.QUEUED)


def test_a_child_that_an_idempotency_key_found_finished_is_not_waited_for():
    done = triggers.trigger(make_trigger(idempotency_key="once"))
    run_to(Run.objects.get(pk=done.run_id))
    run = make_run(Status.RUNNING)
    wait, _ = children_of(run, 1, idempotency_key="once")
    assert (fresh(wait).status, fresh(run).status) == (WaitStatus.RESOLVED, Status.QUEUED)
    assert json.loads(wait.value) == [str(done.run_id)]


def test_a_child_that_an_idempotency_key_found_live_tells_the_parent_when_it_ends():
    live = triggers.trigger(make_trigger(idempotency_key="once"))
    run = make_run(Status.RUNNING)
    children_of(run, 1, idempotency_key="once")
    assert fresh(run).status == Status.WAITING
    run_to(Run.objects.get(pk=live.run_id))
    assert fresh(run).status == Status.QUEUED


def test_two_parents_cannot_wait_for_one_child_and_nothing_of_the_second_is_kept():
    triggers.trigger(make_trigger(idempotency_key="once"))
    children_of(make_run(Status.RUNNING), 1, idempotency_key="once")
    second = make_run(Status.RUNNING)
    with pytest.raises(BadInput, match="another run waits for run"):
        children_of(second, 1, idempotency_key="once")
    assert fresh(second).status == Status.RUNNING
    assert not Wait.objects.filter(run=second).exists()


def test_two_runs_that_come_to_wait_for_each_other_at_once_do_not_lock_each_other_out(monkeypatch):
    pair = [make_run(Status.RUNNING, idempotency_key=key, idempotency_digest=triggers.digest(key)) for key in "ab"]
    both_hold_their_own, turns = Barrier(2), iter((1, 2))
    lock, refused = waits._environment, []

    def lock_both(run_id, lease):
        environment = lock(run_id, lease)
        if next(turns, None):
            both_hold_their_own.wait(120)
        return environment

    def wait_for(parent, key):
        request = make_trigger(parent=parent.id, parent_key="runs#1[0]", idempotency_key=key)
        opening = Opening(key="runs#1", kind=WaitKind.RUNS, children=[request])
        return patiently(partial(noted, parent.id, opening))

    def noted(run_id, opening):
        try:
            return waits.suspend(run_id, opening, lease=1)
        except OperationalError as error:
            refused.append(str(error))
            raise

    monkeypatch.setattr(waits, "_environment", lock_both)
    at_once(partial(wait_for, pair[0], "b"), partial(wait_for, pair[1], "a"))
    assert [fresh(run).status for run in pair] == [Status.WAITING] * 2
    assert not any("deadlock" in each for each in refused)


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_completed_before_anyone_waits_is_there_when_one_does():
    token = tokens.create(timedelta(hours=1))
    assert tokens.complete(token, '{"ok": true}', by="boss") is True
    run = make_run(Status.RUNNING)
    found = waits.suspend(run.id, Opening(key="for_token#1", kind=WaitKind.TOKEN, token=token), lease=1)
    assert found == Resolution(status=WaitStatus.RESOLVED, value='{"ok": true}', wait=token)
    assert fresh(run).status == Status.RUNNING


def test_a_token_is_completed_once_and_wakes_the_run_that_waits_for_it():
    token, run = tokens.create(None), make_run(Status.RUNNING)
    waits.suspend(run.id, Opening(key="for_token#1", kind=WaitKind.TOKEN, token=token), lease=1)
    assert [tokens.complete(token, "1", by="a"), tokens.complete(token, "2", by="b")] == [True, False]
    wait = Wait.objects.get(pk=token)
    assert (wait.value, wait.resolved_by, fresh(run).status) == ("1", "a", Status.QUEUED)


def test_a_token_belongs_to_the_first_run_that_waits_for_it():
    token = tokens.create(None)
    opening = Opening(key="for_token#1", kind=WaitKind.TOKEN, token=token)
    waits.suspend(make_run(Status.RUNNING).id, opening, lease=1)
    with pytest.raises(NotFound, match="belongs to another run"):
        waits.suspend(make_run(Status.RUNNING).id, opening, lease=1)


def test_a_token_that_nobody_made_is_not_found():
    with pytest.raises(NotFound, match="does not exist"):
        run = make_run(Status.RUNNING)
        waits.suspend(run.id, Opening(key="for_token#1", kind=WaitKind.TOKEN, token=uuid4()), lease=1)


def test_the_same_key_gives_the_same_token_until_its_time_is_over():
    first = tokens.create(None, idempotency_key="approve-7")
    assert tokens.create(None, idempotency_key="approve-7") == first
    forward(hours=2)
    assert tokens.create(None, idempotency_key="approve-7") != first


def test_the_earlier_of_the_tokens_and_the_waits_timeout_counts():
    token, run = tokens.create(timedelta(hours=1)), make_run(Status.RUNNING)
    opening = Opening(key="for_token#1", kind=WaitKind.TOKEN, token=token, deadline=timedelta(minutes=1))
    waits.suspend(run.id, opening, lease=1)
    assert wakes.next_deadline() == pytest.approx(60, abs=5)


def test_a_tokens_url_says_nothing_that_the_table_says():
    token, other = tokens.create(None), tokens.create(None)
    assert tokens.secret(token) in tokens.url(token)
    assert tokens.is_secret(token, tokens.secret(token))
    assert not tokens.is_secret(token, tokens.secret(other))
    row = Wait.objects.filter(pk=token).values().get()
    assert tokens.secret(token) not in str(row)


def crash(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(crashes=9)
    rescue.rescue_lost([run.id], run.worker)


ENDS = {
    Status.COMPLETED: lambda run: runs.complete(run.id, lease=1, result=b"1", result_type="application/json"),
    Status.FAILED: lambda run: runs.fail(run.id, lease=1, error={"message": "no"}),
    Status.TIMED_OUT: lambda run: timeouts.time_out(run.id, run.worker, seconds=1),
    Status.CRASHED: crash,
    Status.CANCELED: lambda run: verbs.cancel(run.id),
}


@pytest.mark.parametrize(("status", "end"), ENDS.items(), ids=ENDS)
def test_what_a_run_waited_for_is_closed_with_its_end(status: Status, end):
    run, other = make_run(Status.RUNNING), make_run(Status.RUNNING)
    mine = [make_wait(run, "token", key="token#1"), make_event_wait(run, "paid"), make_wait(run)]
    theirs, done = make_wait(other, "token", key="token#1"), make_wait(run, "token", key="b", status="resolved")
    end(run)
    assert fresh(run).status == status
    assert {fresh(wait).status for wait in mine} == {WaitStatus.CANCELED}
    assert [fresh(wait).status for wait in (theirs, done)] == [WaitStatus.PENDING, WaitStatus.RESOLVED]
    assert tokens.complete(mine[0].pk, "1") is False


def test_a_run_that_tries_again_keeps_its_tokens():
    run = make_run(Status.RUNNING)
    token = make_wait(run, "token", key="token#1")
    runs.retry_later(run.id, lease=1, error={}, delay=timedelta(0), failed_steps=[])
    assert tokens.complete(token.pk, "1") is True


def test_tokens_that_nobody_waits_for_are_no_work_for_the_tick():
    token = tokens.create(None)
    tokens.complete(token, "1")
    wakes.forget_unwaited()
    assert Wait.objects.get(pk=token).woken


def test_an_open_event_wait_is_not_forgotten():
    wait = make_waiting("paid")
    wakes.forget_unwaited()
    assert not fresh(wait).woken
