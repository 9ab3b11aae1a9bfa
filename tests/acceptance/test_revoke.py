"""Revoke: Celery's word for cancel reaches a run wherever it is, whether or not a worker is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, chord, signals
from celery.canvas import StampingVisitor
from celery.exceptions import TaskRevokedError

from tests.acceptance import app as acceptance
from tests.acceptance import heard, watch
from tests.acceptance.cluster import Cluster, Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.nested import parent_of
from tests.acceptance.runs import make_due, status
from tests.acceptance.tasks import add, echo, plain_errback, stays, total
from tests.acceptance.trouble import gated
from triggerapp.models import Run, Step


def waiting(result: Any) -> bool:
    return wait_until(lambda: status(result) == "waiting")


def test_revoke_of_a_waiting_run(on: Worker):
    """Trap 7: at once, not at its next wake; told once, as event and as signal."""
    result = stays.delay(tag := fresh())
    waiting(result)
    wait_until(lambda: "task-waiting" in watch.types(result.id))  # else the worker might tell it after the revoke
    signals.task_revoked.connect(heard.revoked)
    result.revoke()
    signals.task_revoked.disconnect(heard.revoked)
    assert status(result) == "canceled" and result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=120)
    wait_until(lambda: "task-revoked" in watch.types(result.id))
    assert heard.of(result.id).count("revoked") == 1
    make_due(result)
    assert add.delay(1, 1).get(timeout=120) == 2  # time for a wake that must not come
    assert notes(tag) == ["before"] and result.state == "REVOKED"
    assert watch.types(result.id).count("task-revoked") == 1 and watch.state_of(result.id) == "REVOKED"


def test_revoke_by_a_client_that_knows_nothing_of_us(on: Worker, cluster: Cluster):
    result = stays.delay(tag := fresh())
    waiting(result)
    plain = Celery("plain", broker=cluster.broker_url, backend=cluster.result_url, set_as_current=False)
    plain.control.revoke(result.id)
    wait_until(lambda: result.state == "REVOKED")
    assert status(result) == "canceled" and notes(tag) == ["before"]


def test_revoke_of_a_waiting_run_takes_its_children_along(on: Worker):
    result = parent_of.delay(tag := fresh())
    wait_until(lambda: notes(f"{tag}:child"))
    child = wait_until(lambda: Run.objects.filter(parent__task_id=result.id).first())
    wait_until(lambda: Run.objects.get(pk=child.pk).status == "waiting")
    result.revoke()
    assert status(result) == "canceled"
    wait_until(lambda: Run.objects.get(pk=child.pk).status == "canceled")


def test_revoke_of_a_running_run_stops_it_at_its_next_step(on: Worker):
    """The step is the last thing it does, and is not recorded: the lease is no longer its own."""
    result = gated.delay(tag := fresh())
    wait_until(lambda: Step.objects.filter(run__task_id=result.id).exists())
    result.revoke()
    open_gate(tag)
    wait_until(lambda: "through" in notes(tag))
    wait_until(lambda: heard.of(result.id)[-1:] == ["postrun IGNORED"])
    assert Run.objects.get(task_id=result.id).steps.count() == 1
    assert status(result) == "canceled" and result.state == "REVOKED"


def test_terminate_of_a_running_run(prefork: Worker):
    result = gated.delay(tag := fresh())
    wait_until(lambda: notes(tag))
    result.revoke(terminate=True)
    wait_until(lambda: "revoked" in heard.of(result.id))
    open_gate(tag)
    assert add.delay(1, 1).get(timeout=120) == 2
    assert notes(tag) == ["before"] and status(result) == "canceled" and result.state == "REVOKED"


def test_terminate_by_a_plain_client_after_a_wake(prefork: Worker, cluster: Cluster):
    """Trap 14: the worker still knows the second segment of a run."""
    result = gated.apply_async((tag := fresh(),), countdown=0.1)
    wait_until(lambda: notes(tag))
    plain = Celery("plain", broker=cluster.broker_url, backend=cluster.result_url, set_as_current=False)
    plain.control.terminate(result.id)
    wait_until(lambda: status(result) == "canceled")
    open_gate(tag)
    assert add.delay(1, 1).get(timeout=120) == 2
    assert notes(tag) == ["before"]


def test_revoke_of_a_chords_waiting_header_fails_the_chord(on: Worker):
    header = [stays.s(fresh()), echo.s(1)]
    body = total.s().on_error(plain_errback.s(tag := fresh()))
    result = chord(header, body).delay()
    first = result.parent.results[0]
    waiting(first)
    first.revoke()
    with pytest.raises(Exception, match=r"canceled|revoked"):
        result.get(timeout=120)
    assert len(wait_until(lambda: notes(tag))) == 1


class Stamps(StampingVisitor):
    def __init__(self, order: str) -> None:
        self.order = order

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"order": self.order}


def test_revoke_by_stamped_headers(on: Worker, cluster: Cluster):
    """Trap 7, for `revoke_by_stamped_headers`: by our control, and by one that knows nothing of us."""
    plain = Celery("plain", broker=cluster.broker_url, backend=cluster.result_url, set_as_current=False)
    others = stays.delay(fresh())
    for control in (acceptance.app.control, plain.control):
        signature = stays.s(fresh())
        signature.stamp(Stamps(order := fresh()))
        result = signature.delay()
        waiting(result)
        control.revoke_by_stamped_headers({"order": [order]})
        wait_until(lambda result=result: result.state == "REVOKED")
        assert status(result) == "canceled"
    assert waiting(others)
    others.revoke()


def test_revoke_without_a_worker_up(worker: Callable[..., Any]):
    """Traps 7 and 8: the database remembers, no worker need."""
    with worker("threads") as mine:
        result = stays.delay(tag := fresh())
        waiting(result)
        mine.kill9()
        queued = echo.delay("never started")
        for revoked in (result, queued):
            revoked.revoke()
            assert status(revoked) == "canceled" and revoked.state == "REVOKED"
        make_due(result)
        mine.restart()
        assert add.delay(1, 1).get(timeout=120) == 2
        assert notes(tag) == ["before"]
        assert [result.state, queued.state] == ["REVOKED", "REVOKED"]
        assert heard.of(queued.id) in ([], ["prerun", "postrun IGNORED"])
