"""What was missed is found: dead workers, lost messages, ends that nobody told, rows past their time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from kombu import Queue

from tests.factories import (
    QUEUE,
    fresh,
    make_message,
    make_run,
    make_waiting,
    make_worker,
)
from tests.inprocess import Worker as InProcess
from tests.inprocess import app, durable, forward, messages
from triggerapp.clock import now
from triggerapp.engine import dispatch, rescue, runs, sql, wakes, workers
from triggerapp.engine.runs import Claimed
from triggerapp.errors import StaleRun
from triggerapp.models import Attempt, Run, Status
from triggerapp.models.runs import new_id
from workers import identity

pytestmark = pytest.mark.usefixtures("database")


def on_dead(**fields) -> Run:
    return make_run(Status.RUNNING, worker=make_worker(alive=False), **fields)


# --- dead workers ---------------------------------------------------------------------------------


def test_runs_of_a_worker_whose_heart_stopped_go_on_elsewhere():
    lost, healthy = on_dead(), make_run(Status.RUNNING)
    forward(seconds=1)
    assert rescue.rescue() == 1
    lost = fresh(lost)
    assert (lost.status, lost.attempt, lost.crashes) == (Status.QUEUED, 2, 1)
    assert Attempt.objects.get(run=lost).outcome == "crashed"
    assert fresh(healthy).status == Status.RUNNING
    assert len(messages()) == 1


def test_a_heartbeat_keeps_the_runs_of_its_worker():
    run = make_run(Status.RUNNING)
    forward(seconds=9)
    workers.beat(run.worker, hostname="here", pid=1)
    forward(seconds=9)
    assert rescue.rescue() == 0
    forward(seconds=2)
    assert rescue.rescue() == 1


def test_only_runs_that_run_are_rescued():
    dead = make_worker(alive=False)
    kept = [make_run(status, worker=dead) for status in (Status.WAITING, Status.QUEUED, Status.COMPLETED)]
    forward(seconds=1)
    assert rescue.rescue() == 0
    assert [fresh(run).status for run in kept] == ["waiting", "queued", "completed"]


def test_a_run_that_takes_down_its_third_worker_has_crashed():
    run = on_dead(crashes=2)
    forward(seconds=1)
    rescue.rescue()
    run = fresh(run)
    assert (run.status, run.crashes, run.finished_at is not None) == (Status.CRASHED, 3, True)
    assert (run.error["type"], "MAX_CRASHES" in run.error["message"]) == ("triggerapp.errors:WorkerLost", True)


def test_the_crash_limit_can_be_set(settings):
    settings.TRIGGERAPP = {"MAX_CRASHES": 1}
    run = on_dead()
    forward(seconds=1)
    rescue.rescue()
    assert fresh(run).status == Status.CRASHED


def test_a_pool_process_that_died_under_a_living_worker_gives_its_runs_back_at_once():
    worker = make_worker()
    mine, others = make_run(Status.RUNNING, worker=worker), make_run(Status.RUNNING)
    assert rescue.rescue_lost([mine.id, others.id], worker) == 1
    assert (fresh(mine).status, fresh(others).status) == (Status.QUEUED, Status.RUNNING)


def test_a_run_that_its_worker_holds_and_does_not_know_of_goes_on_and_has_not_crashed():
    worker = make_worker()
    stray, at_work = (make_run(Status.RUNNING, worker=worker) for _ in range(2))
    forward(seconds=11)
    recent, others = make_run(Status.RUNNING, worker=worker), make_run(Status.RUNNING)
    assert rescue.rescue_stray(worker, at_work=[at_work.task_id]) == 1
    assert [fresh(run).status for run in (stray, at_work, recent, others)] == ["queued", *["running"] * 3]
    assert (fresh(stray).crashes, fresh(stray).attempt) == (0, 1)
    assert len(messages()) == 1


def test_eager_runs_have_no_worker_that_could_die():
    run = make_run(Status.RUNNING, worker=identity.NOBODY, is_eager=True)
    forward(days=1)
    assert rescue.rescue() == 0
    assert fresh(run).status == Status.RUNNING


# --- lost messages --------------------------------------------------------------------------------


def test_a_message_that_nobody_took_is_sent_again_each_time_after_twice_as_long(settings):
    settings.TRIGGERAPP = {"RESEND_AFTER": timedelta(minutes=5)}
    run = make_run(Status.QUEUED)
    pauses = []
    for _ in range(4):
        pause = 0
        while not rescue.resend():
            forward(minutes=1)
            pause += 1
        pauses.append(pause)
        messages()
    assert pauses == pytest.approx([5, 10, 20, 40], abs=1)  # the looking itself takes time, and counts
    assert fresh(run).sends == 5


def test_a_long_backlog_is_not_a_loss():
    for _ in range(2):
        make_run(Status.QUEUED)
        with app.producer_or_acquire() as producer:
            producer.publish("", routing_key=QUEUE, declare=[Queue(QUEUE)])
    forward(seconds=50)
    assert rescue.resend() == 0
    messages()
    assert rescue.resend() == 2


def test_of_a_backlog_only_as_many_are_sent_again_as_the_queue_lacks_the_oldest_first():
    backlog = [make_run(Status.QUEUED) for _ in range(3)]
    for run in backlog[1:]:
        with app.producer_or_acquire() as producer:
            producer.publish(str(run.id), routing_key=QUEUE, declare=[Queue(QUEUE)])
    forward(hours=1)
    assert rescue.resend() == 1
    assert [fresh(run).sends for run in backlog] == [2, 1, 1]


def another_queues_message() -> str:
    """The message of a run in the queue `another`."""
    return replace(make_message(new_id()), routing_key="another").envelope()


def lay_in_queue(count: int) -> None:
    """Messages of plain tasks, which share the queue."""
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            producer.publish("", routing_key=QUEUE, declare=[Queue(QUEUE)])


def test_a_run_that_later_ones_have_overtaken_is_sent_again_whatever_else_lies_in_its_queue():
    lost = make_run(Status.QUEUED)
    forward(seconds=6)
    lay_in_queue(10)
    assert rescue.resend() == 0
    make_run(Status.RUNNING)
    assert rescue.resend() == 1
    assert fresh(lost).sends == 2


def test_a_backlog_in_order_has_overtaken_nobody():
    make_run(Status.RUNNING)
    forward(seconds=6)
    make_run(Status.QUEUED)
    forward(seconds=6)
    lay_in_queue(10)
    assert rescue.resend() == 0


def test_runs_that_were_sent_at_about_the_same_time_have_not_overtaken_each_other():
    make_run(Status.QUEUED)
    forward(seconds=2)  # whoever woke the first one was still sending when the second one was sent
    make_run(Status.RUNNING)
    forward(seconds=6)
    lay_in_queue(10)
    assert rescue.resend() == 0


def test_a_backlog_in_one_queue_keeps_no_run_of_another_from_being_sent_again():
    for _ in range(6):
        make_run(Status.QUEUED)
    lay_in_queue(6)
    forward(seconds=1)
    lost = make_run(Status.QUEUED, queue="another", message=another_queues_message())
    forward(seconds=6)
    assert rescue.resend(limit=5) == 1
    assert fresh(lost).sends == 2


def test_of_a_loss_that_plain_messages_hide_one_is_sent_as_a_probe_and_the_rest_when_it_comes_through():
    lost = [make_run(Status.QUEUED) for _ in range(3)]
    lay_in_queue(10)
    forward(minutes=2)
    assert [rescue.resend(), rescue.resend()] == [1, 0]
    probe, *rest = sorted(lost, key=lambda run: -fresh(run).sends)
    assert runs.claim(probe.id, 0, make_worker()).lease > 0
    assert rescue.resend() == 2
    assert {fresh(run).sends for run in rest} == {2}


def test_a_run_that_was_sent_twice_and_came_by_its_first_message_has_overtaken_nobody():
    backlog = [make_run(Status.QUEUED) for _ in range(20)]
    forward(seconds=6)
    dispatch.publish(sql.rows(f"SELECT {dispatch.COLUMNS} FROM triggerapp_run ORDER BY sent_at"))
    fetched, *rest = messages()
    lay_in_queue(len(rest))
    assert rescue.resend() == 1  # a worker has the message already: the queue lacks it
    mark = fetched.headers["triggerapp"]
    assert isinstance(runs.claim(backlog[0].id, 0, make_worker(), sent=mark["sent"]), Claimed)
    assert rescue.resend() == 0
    assert {fresh(run).sends for run in backlog[1:]} == {1}


@durable
def noop() -> None:
    """A task."""


def test_a_run_that_was_sent_twice_knows_which_message_it_came_by(worker: InProcess):
    run = noop.trigger()
    first = Run.objects.get().sent_at
    forward(minutes=2)
    assert rescue.resend() == 1
    assert Run.objects.get().sent_at > first
    worker.work()
    assert (run.refresh().status, Run.objects.get().sent_at) == (Status.COMPLETED, first)


def test_a_run_that_was_taken_is_not_sent_again():
    make_run(Status.RUNNING)
    make_run(Status.PENDING)
    forward(hours=1)
    assert rescue.resend() == 0


# --- ends that Celery was not told ----------------------------------------------------------------


def test_celery_is_told_whether_a_run_was_canceled_or_has_expired(worker):
    @durable
    def late() -> None: ...

    canceled, expired = late.delay(), late.apply_async(expires=60)
    canceled.revoke()
    forward(minutes=1)
    rescue.expire()
    rescue.redeliver()
    told = [late.AsyncResult(each.id) for each in (canceled, expired)]
    assert [(each.state, str(each.result)) for each in told] == [("REVOKED", "canceled"), ("REVOKED", "expired")]


def test_an_end_that_was_not_told_is_sent_out_once_more():
    run = make_run(Status.COMPLETED, delivered=False)
    assert rescue.redeliver() == 0
    forward(seconds=31)
    assert (rescue.redeliver(), rescue.redeliver()) == (1, 0)
    (message,) = messages()
    sent = fresh(run).sent_at.isoformat()
    assert message.headers["triggerapp"] == {"run": str(run.id), "lease": 1, "sent": sent, "eta": None, "expires": None}


def test_an_end_that_a_long_queue_keeps_from_being_told_is_sent_each_time_after_twice_as_long():
    run = make_run(Status.COMPLETED, delivered=False, sends=5)
    forward(seconds=31)
    assert rescue.redeliver() == 1
    assert fresh(run).sends == 1  # counted from the end
    for pause in (30, 60, 120):
        forward(seconds=pause - 5)
        assert rescue.redeliver() == 0
        forward(seconds=6)
        assert rescue.redeliver() == 1


def test_an_end_is_never_given_up():
    make_run(Status.COMPLETED, delivered=False)
    forward(seconds=31)
    for _ in range(10):
        assert rescue.redeliver() == 1
        forward(hours=1)


def test_an_end_that_was_told_is_not_told_again():
    make_run(Status.COMPLETED)
    make_run(Status.FAILED, delivered=False, is_eager=True)
    forward(days=1)
    assert rescue.redeliver() == 0


@pytest.mark.parametrize("status", [Status.CANCELED, Status.EXPIRED])
def test_an_end_without_a_worker_is_told_to_the_result_backend(status: Status):
    run = make_run(status, delivered=False)
    rescue.redeliver()
    assert fresh(run).delivered
    assert messages() == []


def test_a_tick_over_many_waits_that_are_not_due_touches_none():
    for n in range(20):
        make_waiting(f"event{n}", expires_at=now() + timedelta(days=1))
    assert (wakes.expire_due(), wakes.wake()) == ([], 0)


def test_a_rescued_runs_late_worker_is_refused():
    run = on_dead()
    forward(seconds=1)
    rescue.rescue()
    runs.claim(run.id, 1, uuid4())
    with pytest.raises(StaleRun):
        runs.complete(run.id, lease=1, result=b"1", result_type="application/json")
