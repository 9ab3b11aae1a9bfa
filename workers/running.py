"""One attempt in this process: enter the function, see how it is left, and settle that.

What leaves the function is an `Outcome`; only what is not the run's own, such as a shutdown, passes through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from triggerapp.engine import sql
from triggerapp.engine.runs import Claimed
from triggerapp.errors import StaleRun
from workers import interrupts, loops
from workers.attempt import Attempt, RollBackNow, enter
from workers.board import Watch
from workers.errors import SuspensionSwallowed, TransactionLeft
from workers.logs import SILENT, Log
from workers.outcomes import Completed, Failed, Left, Outcome
from workers.settling import settle
from workers.suspension import ReleaseNow, StopNow, SuspendNow, Suspension
from workers.tracer import Suspended


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
    outcome = _entered(attempt, task, request, args=args, kwargs=kwargs, claimed=claimed)
    try:
        return settle(task, attempt, claimed=claimed, outcome=outcome)
    except (StaleRun, StopNow) as stale:
        raise Ignore(str(stale)) from stale
    finally:
        attempt.log.end()


def _entered(attempt: Attempt, task: Any, request: Any, *, args: Any, kwargs: Any, claimed: Claimed) -> Outcome:
    """What became of the function. Who sees the run's end sees what it said before."""

    def body() -> object:
        if not claimed.computed:
            task.user_before_start(request.id, args, kwargs)
        return enter(attempt, lambda: loops.finished(task.call_body(*args, **kwargs)))

    def is_not_its_own(error: BaseException) -> bool:
        return interrupts.is_one(error) or interrupts.is_hard_limit(error, task, request)

    outcome = _attempt(attempt, body, failing=claimed.error is not None, is_not_its_own=is_not_its_own)
    if not attempt.is_eager:
        outcome = _without_transactions(outcome)
    attempt.log.flush()
    return outcome


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
