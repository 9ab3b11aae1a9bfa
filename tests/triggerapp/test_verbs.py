"""Cancel, retry, replay: what people and programs do to a run, each with an audit entry."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError

from tests.factories import (
    fresh,
    make_event_wait,
    make_run,
    make_step,
    make_trigger,
    make_unreadable,
    make_wait,
    make_worker,
)
from tests.inprocess import durable, forward, messages
from triggerapp.clock import now
from triggerapp.engine import audit, events, queues, runs, triggers, verbs, waits
from triggerapp.engine.runs import Claimed
from triggerapp.errors import BadInput, IllegalMove, NotFound, Undecodable
from triggerapp.models import FINAL, LIVE, AuditEntry, Run, Status, Step, Wait, WaitStatus

pytestmark = pytest.mark.usefixtures("database")


# --- cancel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", LIVE)
def test_a_live_run_is_canceled_whatever_it_does(status: Status):
    run = make_run(status)
    assert verbs.cancel(run.id, actor="ada") is True
    run = fresh(run)
    assert (run.status, run.finished_at is not None, run.delivered) == (Status.CANCELED, True, True)
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.target) == ("ada", "run.cancel", str(run.id))


@pytest.mark.parametrize("status", FINAL)
def test_a_run_that_is_over_stays_as_it_ended(status: Status):
    run = make_run(status)
    before = Run.objects.filter(pk=run.pk).values().get()
    assert verbs.cancel(run.id) is False
    assert Run.objects.filter(pk=run.pk).values().get() == before
    assert not AuditEntry.objects.exists()


def test_canceling_takes_children_and_grandchildren_along_but_not_the_parent():
    parent = make_run(Status.WAITING)
    child = make_run(Status.WAITING, parent=parent, parent_key="a")
    live, done = (make_run(status, parent=child, parent_key=status) for status in (Status.QUEUED, Status.COMPLETED))
    verbs.cancel(child.id)
    assert [fresh(run).status for run in (parent, child, live, done)] == [
        "waiting",
        "canceled",
        "canceled",
        "completed",
    ]


def test_canceling_cancels_the_waits_so_that_nothing_resolves_them_later():
    run = make_run(Status.WAITING)
    wait = make_event_wait(run, "paid")
    verbs.cancel(run.id)
    events.emit("paid", "{}")
    assert (fresh(wait).status, fresh(wait).value, fresh(run).status) == (WaitStatus.CANCELED, None, Status.CANCELED)


def test_a_task_id_cancels_the_deepest_run_that_celery_replaced_it_with():
    outer, inner = make_run(Status.COMPLETED, task_id="t"), make_run(Status.WAITING, task_id="t", nesting=1)
    assert verbs.cancel_task("t") is True
    assert (fresh(outer).status, fresh(inner).status) == (Status.COMPLETED, Status.CANCELED)
    assert verbs.cancel_task("unheard of") is False


def test_an_orphan_of_a_cancel_that_died_half_way_is_found_by_a_tick():
    parent = make_run(Status.CANCELED)
    child = make_run(Status.WAITING, parent=parent, parent_key="a")
    assert verbs.cancel_orphans() == 1
    assert fresh(child).status == Status.CANCELED


# --- retry ----------------------------------------------------------------------------------------


def failed_run(**fields) -> Run:
    run = make_run(Status.FAILED, error={"message": "no", "steps": ["charge#1"]}, **fields)
    make_step(run, "reserve#1", {"seat": 4})
    make_step(run, "charge#1", value=None, error="{}")
    return run


def test_a_retried_run_goes_on_at_the_step_that_failed():
    run = failed_run()
    verbs.retry(run.id, actor="ada")
    run = fresh(run)
    assert (run.status, run.attempt, run.error, run.finished_at, run.delivered) == (Status.QUEUED, 2, None, None, False)
    claimed = runs.claim(run.id, run.lease, make_worker())
    assert isinstance(claimed, Claimed)
    assert [step["key"] for step in claimed.steps] == ["reserve#1"]
    assert len(messages()) == 1
    assert AuditEntry.objects.get().action == "run.retry"


@pytest.mark.parametrize("status", [Status.CRASHED, Status.TIMED_OUT])
def test_a_run_that_crashed_or_ran_too_long_can_be_retried_too(status: Status):
    run = make_run(status, crashes=3)
    verbs.retry(run.id)
    assert (fresh(run).status, fresh(run).crashes) == (Status.QUEUED, 0)


@pytest.mark.parametrize("status", [*LIVE, Status.COMPLETED, Status.CANCELED, Status.EXPIRED])
def test_a_run_that_did_not_fail_is_not_retried(status: Status):
    run = make_run(status)
    with pytest.raises(IllegalMove, match=f"is {status}: only a failed run can be retried; replay it instead"):
        verbs.retry(run.id)
    assert fresh(run).status == status


@pytest.mark.parametrize("undone", [{"key": "reserve#2", "undone": True}, {"key": "rollback:refund#1"}])
def test_a_run_that_was_rolled_back_has_nothing_to_go_on_from(undone):
    run = failed_run()
    make_step(run, **undone)
    with pytest.raises(IllegalMove, match=r"was rolled back.*replay it instead"):
        verbs.retry(run.id)
    assert fresh(run).status == Status.FAILED
    assert not Step.objects.filter(superseded=True).exists()


def test_a_retry_on_a_paused_queue_waits_for_the_queue():
    run = failed_run(queue="slow")
    queues.set_paused(run.environment_id, "slow", paused=True)
    verbs.retry(run.id)
    assert fresh(run).status == Status.PENDING


def test_a_lease_of_before_the_retry_is_worth_nothing():
    run = failed_run()
    verbs.retry(run.id)
    assert fresh(run).lease > run.lease


def test_a_retried_run_has_its_token_back_and_opens_its_other_waits_anew():
    run = make_run(Status.RUNNING)
    token = make_wait(run, "token", key="token#1", expires_at=now() + timedelta(hours=1))
    make_event_wait(run, "paid")
    make_wait(run)
    runs.fail(run.id, lease=1, error={"message": "no", "steps": []})
    forward(minutes=59)
    verbs.retry(run.id)
    assert [wait["key"] for wait in runs.claim(run.id, fresh(run).lease, make_worker()).waits] == ["token#1"]
    assert Wait.objects.get() == token
    assert (fresh(token).status, fresh(token).resolved_by, fresh(token).woken) == (WaitStatus.PENDING, "", False)
    assert fresh(token).expires_at - now() > timedelta(minutes=50)
    assert waits.resolve(token.pk, "1") is True


def test_a_retried_run_still_counts_the_children_that_end_meanwhile():
    parent = make_run(Status.RUNNING)
    wait = make_wait(parent, "runs", remaining=1, key="runs#1")
    child = make_run(Status.RUNNING, parent=parent, parent_key="runs#1[0]", parent_wait=wait.id)
    runs.fail(parent.id, lease=1, error={"message": "no", "steps": []})
    runs.complete(child.id, lease=1, result=b"1", result_type="application/json")
    verbs.retry(parent.id)
    assert fresh(wait).status == WaitStatus.RESOLVED


def test_a_parent_that_still_waits_for_others_is_told_of_the_retried_child_again():
    parent = make_run(Status.WAITING)
    wait = make_wait(parent, "runs", remaining=1, key="runs#1")
    child = failed_run(parent=parent, parent_key="runs#1[0]", parent_wait=wait.id)
    verbs.retry(child.id)
    assert fresh(wait).remaining == 2
    lease = runs.claim(child.id, fresh(child).lease, make_worker()).lease
    runs.complete(child.id, lease=lease, result=b"1", result_type="application/json")
    assert (fresh(wait).remaining, fresh(parent).status) == (1, Status.WAITING)


# --- replay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(Status))
def test_a_replay_is_a_new_run_of_the_same_call(status: Status):
    run = make_run(status, tags=["vip"], metadata={"a": 1})
    made = Run.objects.get(pk=verbs.replay(run.id, actor="ada").run_id)
    assert (made.status, made.task, made.tags, made.metadata) == (Status.QUEUED, run.task, ["vip"], {"a": 1})
    assert made.replay_of_id == run.id
    assert fresh(run).status == status
    (message,) = messages()
    assert (message.headers["id"], message.headers["root_id"], message.headers["retries"]) == (str(made.id),) * 2 + (0,)


def test_a_replay_leaves_the_canvas_that_the_first_run_belonged_to():
    first = triggers.trigger(make_trigger())
    run = Run.objects.get(pk=first.run_id)
    message = verbs.Message.load(run.message, bytes(run.payload))
    alone = verbs._as_new(message, uuid4())
    assert alone.arguments() == message.arguments()
    assert (alone.headers["group"], alone.headers["parent_id"]) == (None, None)


def test_a_replay_that_is_refused_leaves_no_audit_entry(settings):
    run = make_run(Status.COMPLETED)
    settings.TRIGGERAPP = {"MAX_PAYLOAD_BYTES": 1}
    with pytest.raises(BadInput):
        verbs.replay(run.id)
    assert not AuditEntry.objects.exists()


def test_a_replay_whose_audit_entry_cannot_be_written_is_not_triggered(monkeypatch):
    def fail(*_, **__):
        raise OperationalError("the database is gone")

    run = make_run(Status.COMPLETED)
    monkeypatch.setattr(audit, "record", fail)
    with pytest.raises(OperationalError):
        verbs.replay(run.id)
    assert Run.objects.get() == run
    assert messages() == []


def test_a_replay_has_no_idempotency_key_of_its_own():
    first = triggers.trigger(make_trigger(idempotency_key="order-7"))
    assert verbs.replay(first.run_id).run_id != first.run_id
    assert triggers.trigger(make_trigger(idempotency_key="order-7")).run_id == first.run_id


UNREADABLE = {
    "a pickle, which is not accepted": ({}, "application/x-python-serialize, which this process does not read"),
    "a serializer that nobody knows": ({"content_type": "application/x-own"}, "x-own, which this process does not"),
    "bad bytes": ({"content_type": "application/json"}, "cannot be read as application/json"),
    "another message": ({"content_type": "application/json", "payload": b"[1]"}, "cannot be read as application/json"),
}


@pytest.mark.parametrize(("fields", "why"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_payload_that_cannot_be_read_is_refused_and_the_run_can_be_replayed_with_another(fields, why):
    run = make_unreadable(**fields)
    with pytest.raises(Undecodable, match=why):
        verbs.replay(run.id)
    assert Run.objects.get() == run
    if fields.get("content_type") != "application/x-own":
        made = Run.objects.get(pk=verbs.replay(run.id, arguments=([1], {})).run_id)
        assert bytes(made.payload) != bytes(run.payload)


def test_a_pickle_without_callbacks_is_passed_on_unopened():
    run = make_unreadable(alone=True)
    again = Run.objects.get(pk=verbs.replay(run.id).run_id)
    assert (bytes(again.payload), json.loads(again.message)["alone"]) == (bytes(run.payload), True)
    verbs.retry(run.id)
    assert bytes(fresh(run).payload) == bytes(again.payload)


@pytest.mark.parametrize("envelope", [{"alone": True}, {"alone": False}], ids=str)
def test_a_run_whose_payload_cannot_be_read_is_canceled_all_the_same(envelope):
    run = make_unreadable(Status.QUEUED, **envelope)
    assert verbs.cancel(run.id) is True
    assert fresh(run).status == Status.CANCELED


@pytest.mark.parametrize(("options", "alone"), [({}, True), ({"link": True}, False)], ids=["plain", "with a link"])
def test_a_message_knows_whether_it_holds_arguments_only(options, alone):
    @durable
    def noop():
        return None

    noop.apply_async(**{name: noop.s() for name in options})
    assert json.loads(Run.objects.get().message)["alone"] is alone


# --- reschedule, and runs that are not there ------------------------------------------------------


def test_only_a_run_that_has_not_started_is_rescheduled():
    for run in (make_run(Status.RUNNING), make_run(Status.QUEUED), make_run(Status.PENDING, started_at=now())):
        with pytest.raises(IllegalMove, match="not delayed any more"):
            verbs.reschedule(run.id, None)


def test_verbs_on_a_run_that_is_not_there_say_so():
    assert verbs.cancel(uuid4()) is False
    for verb in (verbs.retry, verbs.replay):
        with pytest.raises(NotFound, match="there is no run"):
            verb(uuid4())


def test_an_entry_without_an_actor_is_by_code():
    verbs.cancel(make_run(Status.QUEUED).id)
    assert AuditEntry.objects.get().actor == "code"


def test_a_resolved_wait_says_who_resolved_it():
    wait = make_wait(make_run(Status.WAITING), "token")
    waits.resolve(wait.id, "1", by="ada")
    assert Wait.objects.get().resolved_by == "ada"
