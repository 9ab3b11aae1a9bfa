"""Accepting runs: a return from `trigger` is a committed row; what cannot be is refused and leaves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction

from tests.factories import everything, fresh, make_message, make_run, make_trigger, make_worker
from tests.inprocess import at_once, broker_down, forward, messages
from triggerapp.clock import now
from triggerapp.engine import environments, queues, rescue, runs, sql, triggers, verbs
from triggerapp.engine.runs import Claimed, Dropped
from triggerapp.errors import BadInput, DatabaseNotReady, DatabaseUnavailable, PayloadTooLarge
from triggerapp.models import FINAL, Run, Status

pytestmark = pytest.mark.usefixtures("database")


def trigger(**fields) -> Run:
    return Run.objects.get(pk=triggers.trigger(make_trigger(**fields)).run_id)


# --- accepted -------------------------------------------------------------------------------------


def test_a_run_is_committed_and_its_message_sent():
    run = trigger()
    (message,) = messages()
    assert (run.status, run.sends, message.headers["triggerapp"]["run"]) == (Status.QUEUED, 1, str(run.id))


def test_a_run_accepted_inside_a_transaction_is_sent_with_its_commit():
    with transaction.atomic():
        trigger()
        assert messages() == []
    assert len(messages()) == 1


def test_a_transaction_that_is_rolled_back_accepts_and_sends_nothing():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        trigger()
        raise ZeroDivisionError
    assert (Run.objects.count(), messages()) == (0, [])


def test_with_the_broker_down_a_run_is_accepted_and_sent_later():
    with broker_down():
        run = trigger()
    assert (fresh(run).status, messages()) == (Status.QUEUED, [])
    forward(minutes=1)
    assert rescue.resend() == 1
    assert len(messages()) == 1


def test_with_the_database_down_nothing_is_accepted_and_nothing_sent(monkeypatch):
    def away(*_):
        raise OperationalError("connection refused")

    monkeypatch.setattr(sql, "rows", away)
    with pytest.raises(DatabaseUnavailable, match=r"not accepted and nothing was sent.*Trigger it again"):
        triggers.trigger(make_trigger())
    monkeypatch.undo()
    assert (Run.objects.count(), messages()) == (0, [])


def test_without_our_tables_nothing_is_accepted_and_the_command_that_makes_them_is_named():
    with transaction.atomic():
        sql.run("ALTER TABLE triggerapp_environment RENAME TO elsewhere")
        with pytest.raises(DatabaseNotReady, match=r"no tables of triggerapp yet: run `manage\.py migrate`"):
            triggers.trigger(make_trigger())
        transaction.set_rollback(True)


def test_without_postgresql_nothing_is_accepted(monkeypatch):
    monkeypatch.setattr(connection, "vendor", "sqlite")
    environments.by_slug.forget()
    with pytest.raises(DatabaseNotReady, match="must be PostgreSQL, not sqlite"):
        triggers.trigger(make_trigger())


def test_many_are_accepted_in_order_all_or_none():
    accepted = triggers.trigger_many([make_trigger(tags=[str(n)]) for n in range(450)])
    tags = dict(Run.objects.values_list("id", "tags"))
    assert [tags[run.run_id] for run in accepted] == [[str(n)] for n in range(450)]
    with pytest.raises(BadInput):
        triggers.trigger_many([make_trigger(), make_trigger(tags=[""])])
    assert Run.objects.count() == 450


def test_many_of_which_the_database_took_only_some_are_none(monkeypatch):
    usual, calls = sql.rows, []

    def away_after_the_first(*args):
        calls.append(args)
        if len(calls) > 1:
            raise OperationalError("server closed the connection")
        return usual(*args)

    monkeypatch.setattr(sql, "rows", away_after_the_first)
    with pytest.raises(DatabaseUnavailable):
        triggers.trigger_many([make_trigger() for _ in range(450)])
    monkeypatch.undo()
    assert (Run.objects.count(), messages()) == (0, [])


def test_the_same_task_id_twice_is_one_run():
    first = triggers.trigger(make_trigger(task_id="mine"))
    second = triggers.trigger(make_trigger(task_id="mine"))
    assert (second.run_id, second.cached, len(messages())) == (first.run_id, True, 1)


# --- idempotency keys -----------------------------------------------------------------------------


def test_a_key_finds_the_run_that_has_it():
    first = triggers.trigger(make_trigger(idempotency_key="order-7"))
    second = triggers.trigger(make_trigger(idempotency_key="order-7"))
    assert (first.cached, second.cached, second.run_id) == (False, True, first.run_id)


def test_fifty_threads_with_one_key_make_one_run():
    found = at_once(*[lambda: triggers.trigger(make_trigger(idempotency_key="order-7"))] * 50)
    assert len({run.run_id for run in found}) == 1
    assert sum(not run.cached for run in found) == 1
    assert Run.objects.count() == 1
    assert len(messages()) == 1


def test_a_key_belongs_to_a_task_and_an_environment(settings):
    first = trigger(idempotency_key="order-7")
    assert trigger(idempotency_key="order-7", task="tests.other").pk != first.pk
    settings.TRIGGERAPP = {"ENVIRONMENT": "prod"}
    assert trigger(idempotency_key="order-7").pk != first.pk


def test_a_key_is_free_when_its_time_is_over():
    first = trigger(idempotency_key="order-7", idempotency_ttl=timedelta(hours=1))
    forward(minutes=59)
    assert trigger(idempotency_key="order-7") == first
    forward(minutes=2)
    assert trigger(idempotency_key="order-7") != first


def test_a_key_lasts_thirty_days_unless_said_otherwise():
    first = trigger(idempotency_key="order-7")
    forward(days=29)
    assert trigger(idempotency_key="order-7") == first
    forward(days=2)
    assert trigger(idempotency_key="order-7") != first


@pytest.mark.parametrize("status", FINAL)
def test_what_went_wrong_frees_the_key_but_success_and_cancel_keep_it(status: Status):
    first = trigger(idempotency_key="order-7")
    run = make_run(status)
    Run.objects.filter(pk=first.pk).update(idempotency_digest=None)
    Run.objects.filter(pk=run.pk).update(idempotency_digest=first.idempotency_digest)
    again = trigger(idempotency_key="order-7")
    assert (again == run) == (status in (Status.COMPLETED, Status.CANCELED))


def test_two_triggers_with_one_key_in_one_batch_are_one_run():
    found = triggers.trigger_many([make_trigger(idempotency_key="order-7") for _ in range(2)])
    assert [run.cached for run in found] == [False, True]


# --- delay, ttl, paused queues --------------------------------------------------------------------


def test_a_delayed_run_is_admitted_when_it_is_due():
    run = trigger(delay=timedelta(hours=1))
    assert (run.status, run.public_status, queues.admit(), messages()) == (Status.PENDING, "DELAYED", 0, [])
    forward(hours=1)
    assert queues.admit() == 1
    assert fresh(run).status == Status.QUEUED
    assert len(messages()) == 1


def test_a_delay_may_be_a_moment():
    run = trigger(delay=datetime(2199, 1, 1, tzinfo=UTC))
    assert run.due_at == datetime(2199, 1, 1, tzinfo=UTC)


def test_a_delay_in_the_past_is_due_at_once():
    trigger(delay=now() - timedelta(days=1))
    assert queues.admit() == 1


def test_a_run_that_did_not_start_in_time_expires():
    run = trigger(ttl=timedelta(minutes=10))
    assert rescue.expire() == 0
    forward(minutes=10)
    assert rescue.expire() == 1
    assert (fresh(run).status, fresh(run).finished_at is not None) == (Status.EXPIRED, True)


def test_a_run_whose_time_is_over_is_not_claimed_even_before_the_tick():
    run = trigger(ttl=timedelta(minutes=10))
    forward(minutes=11)
    assert isinstance(runs.claim(run.id, 0, make_worker()), Dropped)


def test_a_run_that_has_started_never_expires():
    run = trigger(ttl=timedelta(minutes=10))
    claimed = runs.claim(run.id, 0, make_worker())
    assert isinstance(claimed, Claimed)
    runs.release(run.id, lease=claimed.lease)
    forward(minutes=11)
    assert rescue.expire() == 0
    assert isinstance(runs.claim(run.id, claimed.lease, make_worker()), Claimed)


def test_a_paused_queue_admits_nothing_until_it_goes_on():
    environment = environments.current()
    queues.set_paused(environment, "slow", paused=True)
    waiting, other = trigger(queue="slow"), trigger(queue="fast")
    assert (waiting.status, other.status) == (Status.PENDING, Status.QUEUED)
    assert queues.admit() == 0
    queues.set_paused(environment, "slow", paused=False)
    assert fresh(waiting).status == Status.QUEUED


def test_what_runs_on_a_queue_that_is_paused_goes_on():
    run = make_run(Status.RUNNING, queue="slow")
    queues.set_paused(run.environment_id, "slow", paused=True)
    runs.complete(run.id, lease=1, result=b"1", result_type="application/json")
    assert fresh(run).status == Status.COMPLETED


def test_a_delayed_run_can_be_rescheduled_until_it_starts():
    run = trigger(delay=timedelta(hours=1))
    verbs.reschedule(run.id, timedelta(hours=3))
    forward(hours=2)
    assert queues.admit() == 0
    verbs.reschedule(run.id, now() - timedelta(1))
    assert queues.admit() == 1


# --- refused --------------------------------------------------------------------------------------

NAIVE = datetime(2200, 1, 1)  # noqa: DTZ001
REFUSED = {
    "a naive delay": ({"delay": NAIVE}, "has no time zone: pass an aware datetime"),
    "a naive ttl": ({"ttl": NAIVE}, "has no time zone: pass an aware datetime"),
    "a negative ttl": ({"ttl": timedelta(seconds=-1)}, "ttl=.* is negative"),
    "a negative delay": ({"delay": timedelta(seconds=-1)}, "delay=.* is negative"),
    "no time to run in": ({"max_duration": timedelta()}, "max_duration=.* must be more than nothing"),
    "no attempts": ({"max_attempts": 0}, "max_attempts=0"),
    "too many tags": ({"tags": ["t"] * 11}, "at most 10 texts of 1 to 128 characters"),
    "a tag too long": ({"tags": ["t" * 129]}, "at most 10 texts of 1 to 128 characters"),
    "an empty tag": ({"tags": [""]}, "at most 10 texts of 1 to 128 characters"),
    "a tag that is no text": ({"tags": [7]}, "at most 10 texts of 1 to 128 characters"),
    "one text instead of tags": ({"tags": "urgent"}, "tags='urgent'"),
    "a NUL in a tag": ({"tags": ["a\0b"]}, "NUL"),
    "a key too long": ({"idempotency_key": "k" * 2049}, "1 to 2048 characters"),
    "an empty key": ({"idempotency_key": ""}, "1 to 2048 characters"),
    "a NUL in a key": ({"idempotency_key": "a\0b"}, "NUL"),
    "a key whose time is over already": (
        {"idempotency_key": "k", "idempotency_ttl": timedelta(seconds=-1)},
        "idempotency_ttl=.* must be more than nothing",
    ),
    "a NUL in a concurrency key": ({"concurrency_key": "a\0b"}, "NUL"),
    "a concurrency key too long": ({"concurrency_key": "k" * 256}, "concurrency_key.* 255 characters"),
    "a task id too long": ({"task_id": "i" * 256}, "task id.* 255 characters"),
    "a delay out of range": ({"delay": timedelta(days=999_999_999)}, "delay=.* is longer than 100 years"),
    "a time to live of a key out of range": (
        {"idempotency_key": "k", "idempotency_ttl": timedelta(days=999_999_999)},
        "PostgreSQL cannot store one of its options",
    ),
    "a number as a delay": ({"delay": 10}, "delay=10: pass a timedelta or an aware datetime"),
    "a NUL in a task id": ({"task_id": "a\0b"}, "NUL"),
    "NaN in the metadata": ({"metadata": {"share": [1, float("nan")]}}, r"metadata\['share'\]\[1\].*NaN"),
    "a NUL in the metadata": ({"metadata": {"name": "a\0b"}}, "metadata.*NUL"),
    "an object in the metadata": ({"metadata": {"x": {"y": object()}}}, r"metadata\['x'\]\['y'\].*object"),
    "metadata that is no dict": ({"metadata": [1]}, "metadata.*dict"),
    "metadata too large": ({"metadata": {"x": "x" * 300_000}}, "metadata.*262,144"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_and_leaves_nothing(fields, message: str):
    before = everything()
    with pytest.raises(BadInput, match=f"(?s){message}"):
        triggers.trigger_many([make_trigger(), make_trigger(**fields)])
    assert everything() == before
    assert messages() == []


def test_arguments_over_the_limit_are_refused_with_what_to_do():
    message = make_message(None, "x" * 3 * 1024 * 1024)
    with pytest.raises(PayloadTooLarge, match=r"3,145,\d+ bytes.*limit is 3,145,728.*pass a reference"):
        triggers.trigger(make_trigger(message=message))
    assert (Run.objects.count(), messages()) == (0, [])
