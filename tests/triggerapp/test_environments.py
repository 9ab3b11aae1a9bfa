"""Two environments in one database: each has its own broker and tickers, and neither touches the other's runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.test import override_settings

from tests.factories import everything, fresh, make_event, make_run, make_wait, make_waiting, make_worker
from tests.inprocess import Worker, durable, forward, messages
from triggerapp.clock import now
from triggerapp.engine import environments, events, queues, rescue, retention, runs, verbs, wakes
from triggerapp.engine.runs import Foreign
from triggerapp.errors import NotFound
from triggerapp.models import Attempt, Event, Run, Status, Wait, WaitStatus

pytestmark = pytest.mark.usefixtures("database")


@contextmanager
def staging() -> Iterator[None]:
    """What happens here, happens in a process of the other environment."""
    with override_settings(TRIGGERAPP={"ENVIRONMENT": "staging"}):
        yield


def expiring() -> Run:
    return make_run(Status.QUEUED, expires_at=now())


def sleeping() -> Run:
    run = make_run(Status.WAITING)
    make_wait(run, expires_at=now())
    return run


def resolved() -> Run:
    run = make_run(Status.WAITING)
    make_wait(run, status=WaitStatus.RESOLVED)
    return run


def orphan() -> Run:
    return make_run(Status.WAITING, parent=make_run(Status.CANCELED), parent_key="a")


TICKS: dict[str, tuple[Callable[[], Run], Callable[[], object]]] = {
    "admit": (lambda: make_run(Status.PENDING), queues.admit),
    "expire due waits": (sleeping, wakes.expire_due),
    "wake": (resolved, wakes.wake),
    "rescue": (lambda: make_run(Status.RUNNING, worker=make_worker(alive=False)), rescue.rescue),
    "resend": (lambda: make_run(Status.QUEUED), rescue.resend),
    "expire runs": (expiring, rescue.expire),
    "redeliver": (lambda: make_run(Status.COMPLETED, delivered=False), rescue.redeliver),
    "tell of a cancel": (lambda: make_run(Status.CANCELED, delivered=False), rescue.redeliver),
    "cancel orphans": (orphan, verbs.cancel_orphans),
}


@pytest.mark.parametrize(("make", "tick"), TICKS.values(), ids=TICKS)
def test_a_tick_serves_its_own_environment_and_no_other(make: Callable[[], Run], tick: Callable[[], object]):
    with staging():
        make()
    forward(minutes=1)
    before = everything()
    tick()
    assert (everything(), messages()) == (before, [])
    with staging():
        tick()
    assert everything() != before


def test_each_prunes_by_its_own_retention():
    with staging():
        make_run(Status.COMPLETED)
        make_event("old")
    forward(days=31)
    retention.prune_runs(), events.prune()
    assert (Run.objects.count(), Event.objects.count()) == (1, 1)
    with staging():
        retention.prune_runs(), events.prune()
    assert (Run.objects.count(), Event.objects.count()) == (0, 0)


def test_a_deadline_of_another_environment_keeps_no_ticker_awake():
    with staging():
        sleeping()
        make_run(Status.PENDING, due_at=now())
    assert wakes.next_deadline() is None


def test_a_run_that_its_queue_keeps_pending_keeps_no_ticker_awake():
    make_run(Status.PENDING, queue="slow", due_at=now())
    forward(seconds=2)
    assert wakes.next_deadline() is None


def test_a_wait_that_another_environments_process_resolves_is_woken_by_its_own():
    with staging():
        wait = make_waiting("paid")
        environment = environments.current()
    events.emit("paid", "{}", environment=environment)
    assert (fresh(wait).status, messages()) == (WaitStatus.RESOLVED, [])
    with staging():
        assert wakes.wake() == 1


def test_a_run_that_another_environments_process_cancels_is_told_to_its_own_backend():
    with staging():
        run = make_run(Status.WAITING)
    verbs.cancel(run.id)
    assert (fresh(run).status, fresh(run).delivered) == (Status.CANCELED, False)
    with staging():
        rescue.redeliver()
    assert fresh(run).delivered


def test_a_run_of_another_environment_is_not_replayed_here():
    with staging():
        run = make_run(Status.COMPLETED)
    with pytest.raises(NotFound, match="in this environment"):
        verbs.replay(run.id)
    assert Run.objects.get() == run


def test_a_worker_that_gets_another_environments_message_leaves_its_run_alone_and_says_so(worker: Worker, caplog):
    @durable
    def ship() -> str:
        return "done"

    with staging():
        run = ship.trigger()
    worker.work()
    assert (fresh(run.refresh()).status, Attempt.objects.count()) == (Status.QUEUED, 0)
    assert "belongs to environment 'staging' and this worker works for 'dev'" in caplog.text
    forward(seconds=10)
    with staging():
        assert worker.until(run) == "done"


def test_an_end_that_is_another_environments_to_tell_is_not_told_here():
    with staging():
        run = make_run(Status.COMPLETED, result=b"42", result_type="application/json", delivered=False)
    assert runs.claim(run.id, run.lease, make_worker()) == Foreign(environment="staging")


def test_the_same_queue_and_event_names_are_others_in_another_environment():
    with staging():
        wait = make_waiting("paid", expires_at=now() + timedelta(days=1))
        queues.set_paused(environments.current(), "tests", paused=True)
    events.emit("paid", "{}")
    assert Wait.objects.get().status == fresh(wait).status == WaitStatus.PENDING
    make_run(Status.PENDING)
    assert queues.admit() == 1
