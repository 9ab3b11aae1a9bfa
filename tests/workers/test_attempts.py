"""Attempts: who retries, when, what a run knows of itself, and how it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, transaction
from kombu.exceptions import EncodeError

from tests.inprocess import Killed, app, broker_down, durable, messages
from triggerapp.engine import sql
from triggerapp.errors import BadInput, DatabaseUnavailable, PayloadTooLarge
from triggerapp.models import Attempt, Run, Status, Step
from workers import AbortRun, RetryPolicy, RunHandle, current_run, step, wait
from workers.errors import MaxDurationExceeded, ValueTooLarge
from workers.options import policy

ONCE = RetryPolicy(max_attempts=1)
NAN = float("nan")


def celery_task(**options):
    def plain():
        return None

    return app.task(name=f"tests.celerys.{len(app.tasks)}", **options)(plain)


# --- who retries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "retry", "max_attempts", "found"),
    [
        ({}, None, None, RetryPolicy()),
        ({}, ONCE, None, ONCE),
        ({}, RetryPolicy(factor=3), 7, RetryPolicy(factor=3, max_attempts=7)),
        ({"max_retries": 5}, None, None, None),
        ({"max_retries": None}, None, None, None),
        ({"default_retry_delay": 10}, None, None, None),
        ({"autoretry_for": (ValueError,)}, None, None, None),
        ({"max_retries": 5}, ONCE, None, ONCE),
        ({"max_retries": 5}, None, 2, RetryPolicy(max_attempts=2)),
    ],
)
def test_a_task_keeps_what_its_celery_options_say_and_one_that_says_nothing_gets_ours(
    options, retry, max_attempts, found
):
    assert policy(celery_task(**options), retry, max_attempts=max_attempts) == found


def test_a_run_that_raises_is_tried_three_times_by_default(worker):
    tries = []

    @durable
    def purchase():
        tries.append(current_run().number)
        raise ValueError("no")

    run = purchase.trigger()
    worker.work()
    assert (run.status, run.refresh().due_at is not None) == ("QUEUED", True)
    with pytest.raises(ValueError, match="no"):
        worker.until(run)
    assert tries == [1, 2, 3]
    assert list(Attempt.objects.order_by("number").values_list("outcome", flat=True)) == ["failed"] * 3


def test_the_pause_between_attempts_is_the_policys(worker):
    @durable(retry=RetryPolicy(max_attempts=2, min_delay=timedelta(seconds=40), jitter=False))
    def purchase():
        raise ValueError

    run = purchase.trigger()
    worker.work()
    row = run.refresh()
    assert (row.due_at - row.updated_at).total_seconds() == pytest.approx(40, abs=1)


def test_abort_ends_the_run_at_once(worker):
    @durable
    def purchase():
        raise AbortRun("sold out")

    run = purchase.trigger()
    worker.work()
    with pytest.raises(AbortRun, match="sold out"):
        run.get(timeout=0)
    assert run.refresh().attempt == 1


def test_a_trigger_may_say_how_often(worker):
    @durable
    def purchase():
        raise ValueError

    run = purchase.with_options(max_attempts=1).trigger()
    worker.work()
    assert run.status == "FAILED"


def test_a_failed_run_keeps_type_message_and_traceback(worker):
    @durable(retry=ONCE)
    def purchase():
        raise ValueError("no seats")

    run = purchase.trigger()
    worker.work()
    error = run.refresh().error
    assert (error["type"], error["message"]) == ("builtins:ValueError", "no seats")
    assert "in purchase" in error["traceback"]


# --- how long -------------------------------------------------------------------------------------


def test_a_run_that_computes_longer_than_its_max_duration_times_out_and_is_not_tried_again(worker):
    @durable(max_duration=timedelta(seconds=5))
    def purchase():
        step(lambda: 1, key="a")
        wait.sleep(days=1)
        return step(lambda: 2, key="b")

    run = purchase.trigger()
    worker.work()
    Run.objects.update(computed=timedelta(seconds=6))
    with pytest.raises(MaxDurationExceeded, match="b was not begun"):
        worker.until(run)
    assert (run.status, run.refresh().attempt) == ("TIMED_OUT", 1)


def test_waiting_does_not_count(worker):
    @durable(max_duration=timedelta(seconds=5))
    def purchase():
        wait.sleep(days=1)
        return step(lambda: 2, key="b")

    assert worker.until(purchase.trigger()) == 2


# --- what a run knows and says of itself ----------------------------------------------------------


def test_a_run_knows_its_id_attempt_tags_and_metadata(worker):
    @durable
    def purchase():
        run = current_run()
        run.set_metadata(progress=0.5, seats=[1])
        return [run.id, run.number, list(run.tags), dict(run.metadata), run.is_replay]

    run = purchase.with_options(tags=["vip"], metadata={"order": 7}).trigger()
    metadata = {"order": 7, "progress": 0.5, "seats": [1]}
    assert worker.until(run) == [run.id, 1, ["vip"], metadata, False]
    assert run.refresh().metadata == metadata
    assert worker.until(run.replay())[4] is True


def test_metadata_that_json_lacks_is_refused(worker):
    @durable(retry=ONCE)
    def purchase(value):
        current_run().set_metadata(x=eval(value))

    for value, message in (("object()", "the metadata"), ("float('nan')", "nan"), ("chr(0)", "NUL")):
        with pytest.raises((TypeError, ValueError), match=message):
            worker.until(purchase.trigger(value))


def test_metadata_over_its_limit_are_told_no_setting_that_would_not_help(worker):
    @durable(retry=ONCE)
    def purchase():
        current_run().set_metadata(x="x" * 300_000)

    with pytest.raises(ValueTooLarge, match=r"the metadata takes .*; the limit is 262,144\..* pass a reference to it$"):
        worker.until(purchase.trigger())


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ("object()", TypeError, "the result of tests.purchase.* cannot be encoded as json"),
        ("'x' * 11_000_000", PayloadTooLarge, r"the result of tests.purchase.* 11,000,002 bytes.*return a reference"),
    ],
)
def test_a_result_that_cannot_be_kept_fails_the_run_and_says_why(worker, result, error, message):
    @durable(retry=ONCE)
    def purchase():
        return eval(result)

    with pytest.raises(error, match=f"(?s){message}"):
        worker.until(purchase.trigger())


# --- triggering -----------------------------------------------------------------------------------


@durable
def noop(*args, **kwargs):
    return list(args)


NAIVE = datetime(2200, 1, 1)  # noqa: DTZ001
REFUSED = {
    "an argument that is no JSON": (lambda: noop.trigger(object()), EncodeError, "not JSON serializable"),
    "an argument too large": (lambda: noop.trigger("x" * 2**22), PayloadTooLarge, "arguments of tests.noop.*reference"),
    "a naive delay": (lambda: noop.with_options(delay=NAIVE).trigger(), BadInput, "delay=.*aware datetime"),
    "a naive ttl": (lambda: noop.with_options(ttl=NAIVE).trigger(), BadInput, "ttl=.*aware datetime"),
    "a number as delay": (lambda: noop.with_options(delay=5).trigger(), BadInput, "delay=5: pass a timedelta"),
    "a negative ttl": (lambda: noop.with_options(ttl=timedelta(-1)).trigger(), BadInput, "negative"),
    "a number as ttl": (lambda: noop.with_options(ttl=5).trigger(), BadInput, "ttl=5: pass a timedelta"),
    "an unknown scope": (
        lambda: noop.with_options(idempotency_key="k", idempotency_scope="task").trigger(),
        ValueError,
        "'run', 'attempt' or 'global', not 'task'",
    ),
    "a NUL in a tag": (lambda: noop.with_options(tags=["\0"]).trigger(), BadInput, "tags="),
    "NaN in the metadata": (
        lambda: noop.with_options(metadata={"a": NAN}).trigger(),
        BadInput,
        r"metadata\['a'\] must be JSON",
    ),
    "by apply_async": (lambda: noop.apply_async((object(),)), EncodeError, "not JSON serializable"),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_sent(worker, call, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        call()
    assert (Run.objects.count(), messages()) == (0, [])


def test_nul_and_nan_in_arguments_are_celerys_business_and_arrive(worker):
    first, second = worker.until(noop.trigger("a\0b", NAN))
    assert (first, second != second) == ("a\0b", True)


def test_every_way_to_call_is_one_run(worker):
    runs = [noop.delay(1).id, noop.apply_async((1,)).id, noop.s(1).apply_async().id, noop.trigger(1).id]
    assert [str(run) for run in Run.objects.order_by("created_at").values_list("id", flat=True)] == runs


def test_celerys_countdown_and_eta_are_our_delay(worker):
    noop.apply_async(countdown=3600)
    noop.apply_async(eta=datetime(2199, 1, 1, tzinfo=UTC))
    assert messages() == []
    assert {run.status for run in Run.objects.all()} == {Status.PENDING}


def test_the_same_key_gives_a_handle_of_the_same_run(worker):
    first = noop.with_options(idempotency_key="order-7").trigger(1)
    second = noop.with_options(idempotency_key="order-7").trigger(1)
    assert (first.is_cached, second.is_cached, first.id == second.id) == (False, True, True)
    assert noop.apply_async((1,), idempotency_key="order-7").id == first.task_id


def test_with_the_broker_down_a_run_is_accepted_and_done_later(worker):
    with broker_down():
        run = noop.trigger(1)
    assert run.status == "QUEUED"
    assert worker.until(run) == [1]


def test_with_the_database_down_a_trigger_says_so_and_sends_nothing(worker, monkeypatch):
    def away(*_):
        raise OperationalError("connection refused")

    monkeypatch.setattr(sql, "rows", away)
    with pytest.raises(DatabaseUnavailable, match=r"not accepted and nothing was sent.*Trigger it again"):
        noop.delay(1)
    assert messages() == []


# --- handles --------------------------------------------------------------------------------------


def test_a_handle_waits_for_the_end_and_says_how_long_it_did_not_come(worker):
    run = noop.trigger(1)
    with pytest.raises(TimeoutError, match=r"is still QUEUED after 0.01 s"):
        run.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        run.get(timeout=timedelta())
    with pytest.raises(TypeError, match="timeout='x': it takes"):
        run.get(timeout="x")
    worker.work()
    assert run.get(timeout=0) == [1]


def test_a_handle_cancels_retries_and_replays(worker):
    fail = [True]

    @durable(retry=ONCE)
    def purchase():
        if fail:
            raise ValueError
        return "done"

    run = purchase.trigger()
    worker.work()
    fail.clear()
    run.retry(actor="ada")
    assert worker.until(run) == "done"
    again = run.replay()
    assert again.cancel() is True
    assert (again.status, again.cancel(), again.refresh().replay_of_id) == ("CANCELED", False, run.refresh().id)


def test_a_run_whose_third_worker_dies_has_crashed(worker):
    @durable
    def deadly():
        raise Killed

    run = deadly.trigger()
    for _ in range(3):
        worker.work()
        worker.die()
        worker.tick()
    with pytest.raises(Exception, match="the worker died"):
        run.get(timeout=0)
    assert (run.status, run.refresh().crashes) == ("CRASHED", 3)


def test_a_run_that_is_canceled_while_it_runs_begins_one_more_step_at_most_and_records_nothing(worker):
    reached = []

    @durable
    def purchase():
        RunHandle(id=current_run().id, task_id="").cancel()
        step(reached.append, 1)
        step(reached.append, 2)

    run = purchase.trigger()
    worker.work()
    assert (run.status, reached, Step.objects.count()) == ("CANCELED", [1], 0)


# --- what a function leaves behind ----------------------------------------------------------------


@pytest.mark.parametrize("begin", [lambda: transaction.atomic().__enter__(), lambda: transaction.set_autocommit(False)])
def test_a_run_that_leaves_a_transaction_open_fails_and_the_next_one_in_its_process_does_not(worker, begin):
    @durable(retry=ONCE)
    def leaves() -> None:
        begin()
        Run.objects.update(tags=["lost"])

    @durable(retry=ONCE)
    def follows() -> int:
        return step(lambda: 1)

    guilty, next_one = leaves.trigger(), follows.trigger()
    worker.work()
    failed = Run.objects.get(pk=guilty.id)
    assert (failed.status, failed.error["type"]) == ("failed", "workers.errors:TransactionLeft")
    assert "use `with transaction.atomic()`" in failed.error["message"]
    assert worker.until(next_one) == 1
    assert not Run.objects.filter(tags__contains=["lost"]).exists()


def test_a_wait_in_a_transaction_by_hand_is_refused(worker):
    @durable(retry=ONCE)
    def waits() -> None:
        transaction.set_autocommit(False)
        wait.sleep(60)

    run = waits.trigger()
    worker.work()
    assert Run.objects.get(pk=run.id).error["type"] == "workers.errors:WaitInTransaction"
