"""Settle an attempt: write how it ended, and give the tracer what it should see.

First the row, under the attempt's lease, then the word to Celery: who is told of an end can rely on it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, cast

from celery.exceptions import Reject, Retry
from kombu.exceptions import EncodeError

from triggerapp import conf
from triggerapp.engine import encoding, runs, undoing
from triggerapp.engine.runs import Claimed
from triggerapp.errors import BadType, PayloadTooLarge
from triggerapp.models import Status
from workers import codec, options
from workers.attempt import Attempt, RollBackNow
from workers.errors import JournalMismatch, MaxDurationExceeded, WaitCanceled, WaitTimeout
from workers.journal import failed_steps
from workers.outcomes import Completed, Failed, Left, Outcome
from workers.patience import patiently
from workers.tracer import Suspended

_FINAL = (MaxDurationExceeded, JournalMismatch, WaitTimeout, WaitCanceled)
"""What another attempt would only meet again; a step's policy may want it, and `RetryPolicy` wants some nowhere."""


def settle(task: Any, attempt: Attempt, *, claimed: Claimed, outcome: Outcome) -> object:
    """Write the outcome; returns or raises what the tracer should see. Raises `StaleRun` if the run is another's."""
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
        recorded = _roll_back(attempt, claimed)
        raise codec.load_error(recorded)
    policy = options.policy(task, task.durable.retry, max_attempts=claimed.max_attempts)
    if isinstance(error, _FINAL) or attempt.is_eager:
        policy = None
    delay = policy.delay(attempt.number) if policy is not None and policy.wants(error) else None
    if delay is not None:
        _retry_later(attempt, error, delay)
        raise Retry(exc=tellable(error), when=cast(Any, delay.total_seconds())) from error
    status = Status.TIMED_OUT if isinstance(error, MaxDurationExceeded) else Status.FAILED
    _finish_failed(attempt, error, status)
    raise error if attempt.is_eager else tellable(error)


def tellable(error: BaseException) -> Exception:
    """What stands for an error that Celery's tracer would let through: a pool that met it would lose the message."""
    if isinstance(error, Exception):
        return error
    told = codec.load_error(codec.dump_error(error))
    told.__cause__ = error
    return cast(Exception, told)


def _finish_failed(attempt: Attempt, error: BaseException, status: Status) -> None:
    recorded = {**codec.dump_error(error), "steps": failed_steps(error)}
    if attempt.rollbacks:
        patiently(partial(undoing.begin, attempt.run_id, lease=attempt.lease, error=recorded, status=status))
    attempt.roll_back_into(recorded)
    patiently(
        lambda: runs.fail(
            attempt.run_id, lease=attempt.lease, error=recorded, status=status, delivered=attempt.is_eager
        )
    )


def _roll_back(attempt: Attempt, claimed: Claimed) -> dict[str, Any]:
    recorded, status = undoing.split(claimed.error)
    attempt.roll_back_into(recorded)
    end = partial(runs.fail, attempt.run_id, error=recorded, status=status, delivered=claimed.delivered)
    patiently(partial(end, lease=attempt.lease))
    return recorded


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
