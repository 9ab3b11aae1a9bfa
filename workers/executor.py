"""From a message to an outcome: claim the run, run an attempt, settle it.

Called by Celery's tracer in the pool process. What leaves here is what the tracer understands: a
value, the task's exception, `Retry`, or an `Ignore` for everything that is not the run's end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

from celery import states
from celery.contrib.abortable import AbortableTask
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import EncodeError

from triggerapp import conf
from triggerapp.engine import dispatch, encoding, runs
from triggerapp.engine.runs import Claimed, Dropped, Ended, Foreign, Unknown
from triggerapp.errors import BadType, PayloadTooLarge, StaleRun
from triggerapp.models import Run, Status
from workers import codec, identity, light, logs, loops, options, results
from workers.attempt import Attempt, RollBackNow, enter
from workers.board import Watch
from workers.errors import JournalMismatch, MaxDurationExceeded, SuspensionSwallowed, WaitCanceled, WaitTimeout
from workers.handle import decode_result, result_of
from workers.incoming import adopted, mark_of
from workers.journal import failed_steps
from workers.logs import SILENT, Log
from workers.marks import TOLD_AGAIN
from workers.outcomes import Completed, Failed, Left, Outcome
from workers.patience import UNANSWERED, patiently
from workers.suspension import ByReentry, Inline, ReleaseNow, StopNow, SuspendNow, Suspension
from workers.tracer import Suspended

log = logging.getLogger(__name__)

_NOT_STORED: tuple[type[Exception], ...] = (EncodeError, *dispatch.UNREACHABLE)


_FOREIGN = (
    "run %s belongs to environment %r and this worker works for %r: it was left alone and is sent again. They share "
    "a broker and a queue: give each environment a broker, or queues, of its own"
)
_FINAL = (MaxDurationExceeded, JournalMismatch, WaitTimeout, WaitCanceled)
"""What another attempt would only meet again; a step's policy may want it, and `RetryPolicy` wants some nowhere."""


def execute(task: Any, request: Any, *, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    """Run the message's run; returns its value, or raises what the tracer should see."""
    if request.is_eager:
        claimed = _claim_eager(task, request)
        return run(task, request, args=args, kwargs=kwargs, claimed=claimed, suspension=Inline())
    watch = Watch(identity.board(), lease=conf.get().LEASE)
    match _claim(task, request, mark_of(request)):
        case Claimed() as found:
            _resumed(task, request, found)
            value = _run_claimed(task, request, args=args, kwargs=kwargs, claimed=found, watch=watch)
            results.will_be_first(task, request)
            return value
        case Ended() as found:
            setattr(request, TOLD_AGAIN, True)
            return _deliver(found)
        case Dropped(status=status):
            _restore_state(task, request, status)
            raise Ignore(f"run is {status}: another message was first")
        case Foreign(environment=environment):
            log.error(_FOREIGN, request.id, environment, conf.get().ENVIRONMENT)
            raise Ignore(f"run belongs to environment {environment}")
    raise Ignore("run is unknown")


def _claim(task: Any, request: Any, mark: Mapping[str, Any] | None) -> Claimed | Ended | Dropped | Foreign | Unknown:
    """Claim over a database that is away for a while. Afterwards the run is not ours to fail: it is found again.

    A claim that went through although its answer did not is dropped here; the worker's roll call gives the run back.
    """
    try:
        # A message of an earlier version does not say when it was sent.
        known = mark and partial(runs.claim, UUID(mark["run"]), mark["lease"], identity.worker(), sent=mark.get("sent"))
        found = patiently(known) if known else Unknown()
        if isinstance(found, Unknown):
            found = patiently(lambda: runs.claim(adopted(task, request), 0, identity.worker()))
    except UNANSWERED as error:
        raise Ignore(f"the run was not claimed: the database did not answer ({error})") from error
    return found


def _claim_eager(task: Any, request: Any) -> Claimed:
    run_id = adopted(task, request, is_eager=True)
    lease = Run.objects.values_list("lease", flat=True).get(pk=run_id)
    found = runs.claim(run_id, lease, identity.NOBODY)
    if not isinstance(found, Claimed):
        raise StaleRun(run_id)
    return found


def _run_claimed(task: Any, request: Any, *, args: Any, kwargs: Any, claimed: Claimed, watch: Watch) -> object:
    """In a process of its own, where this worker has such and the run is to have one; else here."""
    if identity.home() is None:
        return _run_here(task, request, args=args, kwargs=kwargs, claimed=claimed, watch=watch)
    from checkpoint import Unborn  # noqa: PLC0415  (nobody else is to load CRIU's driver)
    from workers.supervision import supervisor  # noqa: PLC0415

    with light.judged(task, claimed) as stays:
        if not stays:
            try:
                return supervisor.run(task, request, args, kwargs, claimed, watch)
            except Unborn as problem:
                log.warning("run %s stays in the pool process: %s", claimed.run_id, problem)
        return _run_here(task, request, args=args, kwargs=kwargs, claimed=claimed, watch=watch)


def _run_here(task: Any, request: Any, *, args: Any, kwargs: Any, claimed: Claimed, watch: Watch) -> object:
    """In the pool process."""
    suspension = ByReentry(leaving=identity.is_leaving, announce=announcer(task, request))
    said = logs.of(claimed)
    return run(task, request, args=args, kwargs=kwargs, claimed=claimed, suspension=suspension, watch=watch, log=said)


def run(
    task: Any,
    request: Any,
    *,
    args: Any,
    kwargs: Any,
    claimed: Claimed,
    suspension: Suspension,
    watch: Watch | None = None,
    log: Log = SILENT,
) -> object:
    """Run an attempt in this process and settle it; returns or raises what the tracer should see."""
    attempt = Attempt(
        claimed,
        task=task.name,
        suspension=suspension,
        retries=request.retries or 0,
        is_eager=request.is_eager,
        watch=watch,
        log=log,
    )
    if not claimed.computed:
        task.user_before_start(request.id, args, kwargs)
    outcome = _attempt(
        attempt, lambda: loops.finished(task.call_body(*args, **kwargs)), failing=claimed.error is not None
    )
    attempt.log.flush()  # who sees the run's end sees what it said before
    try:
        return _settle(task, attempt, claimed=claimed, outcome=outcome)
    except (StaleRun, StopNow) as stale:
        raise Ignore(str(stale)) from stale
    finally:
        attempt.log.end()


def _attempt(attempt: Attempt, body: Callable[[], object], *, failing: bool) -> Outcome:
    """The function, from entry to exit."""
    try:
        value = enter(attempt, body)
    except SuspendNow as left:
        return Left(signal=Suspended(left.description, at=attempt.left_at))
    except ReleaseNow:
        return Left(signal=Suspended("released: its worker is shutting down"), release=True)
    except StopNow as stale:
        return Left(signal=Ignore(str(stale)))
    except RollBackNow as again:
        return Failed(error=again)
    except (Ignore, Retry, Reject) as control:
        return Left(signal=control)
    except Exception as error:  # noqa: BLE001  (whatever the task raises is its outcome)
        return Failed(error=error)
    if attempt.left_at is not None:
        return Failed(error=SuspensionSwallowed(attempt.left_at))
    return Failed(error=RollBackNow()) if failing else Completed(value=value)


def _settle(task: Any, attempt: Attempt, *, claimed: Claimed, outcome: Outcome) -> object:
    match outcome:
        case Completed(value=value):
            return _complete(task, attempt, claimed=claimed, value=value)
        case Left(release=True, signal=signal):
            patiently(lambda: runs.release(attempt.run_id, lease=attempt.lease))
            raise signal
        case Left(signal=Retry() as signal):
            _retry(attempt, signal.exc, attempt.pending_retry)
            raise signal
        case Left(signal=Reject() as signal) if signal.requeue:  # type: ignore[attr-defined]
            patiently(lambda: runs.release(attempt.run_id, lease=attempt.lease))
            raise signal
        case Left(signal=Reject() as signal):
            _finish_failed(attempt, signal, Status.FAILED)
            raise signal
        case Left(signal=Suspended() as signal):
            raise signal
        case Left(signal=signal):
            return _ignored(attempt, signal)
        case Failed(error=error):
            return _fail(task, attempt, claimed=claimed, error=error)
    raise AssertionError(outcome)


def _ignored(attempt: Attempt, signal: Exception) -> object:
    """`raise Ignore` of the user's, or `self.replace`: the run is over, its result is somebody else's."""
    if runs.holds(attempt.run_id, attempt.lease):
        _, _, nothing = encoding.encode(None, "json")
        runs.complete(
            attempt.run_id, lease=attempt.lease, result=nothing, result_type="application/json", delivered=True
        )
    raise signal


def _complete(task: Any, attempt: Attempt, *, claimed: Claimed, value: object) -> object:
    try:
        content_type, data = _encode_result(task, value)
    except (EncodeError, TypeError, ValueError, PayloadTooLarge) as error:
        return _fail(task, attempt, claimed=claimed, error=_bad_result(task, error))
    patiently(
        lambda: runs.complete(
            attempt.run_id, lease=attempt.lease, result=data, result_type=content_type, delivered=attempt.is_eager
        )
    )
    return value


def _encode_result(task: Any, value: object) -> tuple[str, bytes]:
    content_type, _, data = encoding.encode(value, task.app.conf.result_serializer)
    limit = conf.get().MAX_RESULT_BYTES
    if len(data) > limit:
        raise PayloadTooLarge(
            f"{len(data):,} bytes; the limit is {limit:,} (TRIGGERAPP['MAX_RESULT_BYTES']). "
            "Store it elsewhere and return a reference."
        )
    return content_type, data


def _bad_result(task: Any, error: Exception) -> Exception:
    if isinstance(error, PayloadTooLarge):
        return PayloadTooLarge(f"the result of {task.name} is {error}")
    return BadType(f"the result of {task.name} cannot be encoded as {task.app.conf.result_serializer}: {error}")


def _fail(task: Any, attempt: Attempt, *, claimed: Claimed, error: BaseException) -> object:
    """Try again later, or undo and fail."""
    if isinstance(error, RollBackNow):
        recorded = claimed.error
        _roll_back(attempt, recorded)
        raise codec.load_error(recorded)
    policy = options.policy(task, task.durable.retry, max_attempts=claimed.max_attempts)
    if isinstance(error, _FINAL) or attempt.is_eager:
        policy = None
    delay = policy.delay(attempt.number) if policy is not None and policy.wants(error) else None
    if delay is not None:
        _retry_later(attempt, error, delay)
        raise Retry(exc=cast(Exception, error), when=cast(Any, delay.total_seconds())) from error
    status = Status.TIMED_OUT if isinstance(error, MaxDurationExceeded) else Status.FAILED
    _finish_failed(attempt, error, status)
    raise error


def _finish_failed(attempt: Attempt, error: BaseException, status: Status) -> None:
    recorded = {**codec.dump_error(error), "steps": failed_steps(error)}
    if attempt.rollbacks:
        patiently(lambda: runs.begin_rollback(attempt.run_id, lease=attempt.lease, error=recorded))
        attempt.roll_back_into(recorded)
    patiently(
        lambda: runs.fail(
            attempt.run_id, lease=attempt.lease, error=recorded, status=status, delivered=attempt.is_eager
        )
    )


def _roll_back(attempt: Attempt, recorded: dict[str, Any]) -> None:
    attempt.roll_back_into(recorded)
    patiently(lambda: runs.fail(attempt.run_id, lease=attempt.lease, error=recorded))


def _retry(attempt: Attempt, error: BaseException | None, pending: Any) -> None:
    recorded = codec.dump_error(error or Retry("retry"))
    if attempt.is_eager:  # Celery calls `apply` again as soon as this one has ended
        runs.retry_here(attempt.run_id, lease=attempt.lease, error=recorded, failed_steps=failed_steps(error))
        return
    patiently(
        lambda: runs.retry_later(
            attempt.run_id,
            lease=attempt.lease,
            error=recorded,
            delay=pending.delay if pending else timedelta(),
            failed_steps=failed_steps(error),
            message=pending and pending.message,
        )
    )


def _retry_later(attempt: Attempt, error: BaseException, delay: timedelta) -> None:
    patiently(
        lambda: runs.retry_later(
            attempt.run_id,
            lease=attempt.lease,
            error=codec.dump_error(error),
            delay=delay,
            failed_steps=failed_steps(error),
        )
    )


def _deliver(ended: Ended) -> object:
    """The run ended before Celery could be told: tell it now, through the tracer."""
    if ended.status == Status.COMPLETED:
        return decode_result(ended.result, ended.result_type)
    row = {"id": ended.run_id, "task": "", "status": ended.status, "error": ended.error}
    return result_of(row).unwrap()


# -- what Celery's result backend says meanwhile ---------------------------------------------------


def announcer(task: Any, request: Any) -> Callable[[str], None]:
    """Tells Celery's result backend what the run waits for, or that it goes on."""

    def announce(description: str) -> None:
        if description:
            _store_state(task, request, state="WAITING", meta={"waiting": description})
        else:
            _store_state(task, request, state=states.STARTED)

    return announce


def _resumed(task: Any, request: Any, claimed: Claimed) -> None:
    if claimed.computed:
        _store_state(task, request, state=states.STARTED)


def _restore_state(task: Any, request: Any, status: str) -> None:
    """Celery noted STARTED for a message that we drop."""
    if status == Status.WAITING and task.track_started:
        _store_state(task, request, state="WAITING")


def _store_state(task: Any, request: Any, *, state: str, meta: object = None) -> None:
    if request.ignore_result or task.ignore_result:
        return
    try:
        if isinstance(task, AbortableTask) and task.is_aborted(task_id=request.id):
            return  # the user's word to the task, which it has yet to read
        task.backend.store_result(request.id, meta, state, request=request)
    except _NOT_STORED as error:
        log.warning("Celery's result backend was not told that %s is %s: %s", request.id, state, error)
