"""From a message to an outcome: claim the run, run an attempt, settle it.

Called by Celery's tracer in the pool process. What leaves here is what the tracer understands: a
value, the task's exception, `Retry`, or an `Ignore` for everything that is not the run's end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, cast
from uuid import UUID

from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import EncodeError

from triggerapp import conf
from triggerapp.engine import encoding, runs, sql, undoing
from triggerapp.engine.runs import Claimed, Dropped, Ended, Foreign, Unknown
from triggerapp.errors import BadType, PayloadTooLarge, StaleRun
from triggerapp.models import Run, Status
from workers import announcing, codec, identity, interrupts, light, logs, loops, options, reentry, results, telling
from workers.attempt import Attempt, RollBackNow, enter
from workers.board import Watch
from workers.errors import (
    JournalMismatch,
    MaxDurationExceeded,
    SuspensionSwallowed,
    TransactionLeft,
    WaitCanceled,
    WaitTimeout,
)
from workers.handle import decode_result, result_of
from workers.incoming import adopted, mark_of
from workers.journal import failed_steps
from workers.logs import SILENT, Log
from workers.marks import TOLD_AGAIN
from workers.outcomes import Completed, Failed, Left, Outcome
from workers.patience import UNANSWERED, patiently
from workers.suspension import ByReentry, Inline, ReleaseNow, StopNow, SuspendNow, Suspension
from workers.telling import NotTold
from workers.tracer import Suspended

log = logging.getLogger(__name__)

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
    found = _claim(task, request, mark_of(request))
    telling.only_what_is_recorded(request)
    match found:
        case Claimed():
            if found.delivered:
                _only_undo(task, request, args=args, kwargs=kwargs, claimed=found, watch=watch)
            announcing.resumed(task, request, found)
            with _ending(request, found.run_id):
                value = _run_claimed(task, request, args=args, kwargs=kwargs, claimed=found, watch=watch)
            telling.look(task, request)
            results.will_be_first(task, request)
            return value
        case Ended():
            setattr(request, TOLD_AGAIN, True)
            with _ending(request, found.run_id):
                value = _deliver(found)
            telling.look(task, request)
            return value
        case Dropped(status=status):
            announcing.restore_state(task, request, status)
            raise Ignore(f"run is {status}: another message was first")
        case Foreign(environment=environment):
            log.error(_FOREIGN, request.id, environment, conf.get().ENVIRONMENT)
            raise Ignore(f"run belongs to environment {environment}")
    raise Ignore("run is unknown")


def _only_undo(task: Any, request: Any, *, claimed: Claimed, **how: Any) -> NoReturn:
    """A time limit killed the run, and Celery was told: of the rollbacks it hears nothing, nor of what hinders them."""
    told = _tellable(codec.load_error(undoing.split(claimed.error)[0]))
    try:
        with _ending(request, claimed.run_id):
            _run_claimed(task, request, claimed=claimed, **how)
    except Ignore:
        raise
    except Exception as error:
        told = error
        raise Ignore("the run was killed by a time limit, and is rolled back") from error
    finally:
        announcing.restore_failure(task, request, told)
    raise AssertionError(request.id)


@contextmanager
def _ending(request: Any, run_id: UUID) -> Iterator[None]:
    """What is raised within is the task's failure if the run has ended; else the run is found again and goes on."""
    try:
        yield
    except (Ignore, Retry, Reject):
        raise
    except Exception as error:
        if not _is_over(run_id):
            log.exception("run %s was left where it stood; it goes on later", run_id)
            raise NotTold(f"the run has not ended: {error!r}") from error
        telling.failed(request, error)
        raise


def _is_over(run_id: UUID) -> bool:
    try:
        return patiently(partial(runs.is_over, run_id))
    except UNANSWERED:
        return False


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
        log.error("%s was not claimed, and is sent again: the database did not answer (%s)", request.id, error)
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
        reentry.note(claimed)
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
    suspension = ByReentry(leaving=identity.is_leaving, announce=announcing.announcer(task, request))
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

    def body() -> object:
        if not claimed.computed:
            task.user_before_start(request.id, args, kwargs)
        return enter(attempt, lambda: loops.finished(task.call_body(*args, **kwargs)))

    def is_not_its_own(error: BaseException) -> bool:
        return interrupts.is_one(error) or interrupts.is_hard_limit(error, task, request)

    outcome = _attempt(attempt, body, failing=claimed.error is not None, is_not_its_own=is_not_its_own)
    if not attempt.is_eager:
        outcome = _without_transactions(outcome)
    attempt.log.flush()  # who sees the run's end sees what it said before
    try:
        return _settle(task, attempt, claimed=claimed, outcome=outcome)
    except (StaleRun, StopNow) as stale:
        raise Ignore(str(stale)) from stale
    finally:
        attempt.log.end()


def _attempt(
    attempt: Attempt, body: Callable[[], object], *, failing: bool, is_not_its_own: Callable[[BaseException], bool]
) -> Outcome:
    """The function, from entry to exit. An eager run ends by whatever ends it: nobody else would find it."""
    try:
        value = body()
    except SuspendNow as left:
        return Left(signal=Suspended(left.description, at=attempt.left_at))
    except ReleaseNow:
        return Left(signal=Suspended("released: its worker is shutting down"), release=True)
    except StopNow as stale:
        return Left(signal=Ignore(str(stale)))
    except RollBackNow as again:
        return Failed(error=again)
    except (Ignore, Retry, Reject) as control:
        return Failed(error=RollBackNow()) if failing else Left(signal=control)
    except BaseException as error:
        if is_not_its_own(error) and not attempt.is_eager:
            raise
        return Failed(error=RollBackNow() if failing else error)
    if attempt.left_at is not None:
        return Failed(error=SuspensionSwallowed(attempt.left_at))
    return Failed(error=RollBackNow()) if failing else Completed(value=value)


def _without_transactions(outcome: Outcome) -> Outcome:
    """The end of a run would be written into one that the function has left open, and lost with it."""
    left = sql.abandon_transactions()
    return Failed(error=TransactionLeft(left[0])) if left and isinstance(outcome, Completed) else outcome


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
        recorded = _roll_back(attempt, claimed)
        raise codec.load_error(recorded)
    policy = options.policy(task, task.durable.retry, max_attempts=claimed.max_attempts)
    if isinstance(error, _FINAL) or attempt.is_eager:
        policy = None
    delay = policy.delay(attempt.number) if policy is not None and policy.wants(error) else None
    if delay is not None:
        _retry_later(attempt, error, delay)
        raise Retry(exc=_tellable(error), when=cast(Any, delay.total_seconds())) from error
    status = Status.TIMED_OUT if isinstance(error, MaxDurationExceeded) else Status.FAILED
    _finish_failed(attempt, error, status)
    raise error if attempt.is_eager else _tellable(error)


def _tellable(error: BaseException) -> Exception:
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


def _deliver(ended: Ended) -> object:
    """The run ended before Celery could be told: tell it now, through the tracer."""
    if ended.status == Status.COMPLETED:
        return decode_result(ended.result, ended.result_type)
    row = {"id": ended.run_id, "task": "", "status": ended.status, "error": ended.error}
    return result_of(row).unwrap()
