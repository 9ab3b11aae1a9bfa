"""From a message to an outcome: claim the run, and run an attempt where it belongs.

Called by Celery's tracer in the pool process. What leaves here is what the tracer understands: a
value, the task's exception, `Retry`, or an `Ignore` for everything that is not the run's end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn
from uuid import UUID

from celery.exceptions import Ignore, Reject, Retry

from triggerapp import conf
from triggerapp.engine import runs, undoing
from triggerapp.engine.runs import Claimed, Dropped, Ended, Foreign, Unknown
from triggerapp.errors import StaleRun
from triggerapp.models import Run, Status
from workers import announcing, codec, identity, light, logs, reentry, results, running, settling, telling
from workers.board import Watch
from workers.handle import decode_result, result_of
from workers.incoming import adopted, mark_of
from workers.marks import TOLD_AGAIN
from workers.patience import UNANSWERED, patiently
from workers.suspension import ByReentry, Inline
from workers.telling import NotTold

log = logging.getLogger(__name__)

_FOREIGN = (
    "run %s belongs to environment %r and this worker works for %r: it was left alone and is sent again. They share "
    "a broker and a queue: give each environment a broker, or queues, of its own"
)


def execute(task: Any, request: Any, *, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    """Run the message's run; returns its value, or raises what the tracer should see."""
    if request.is_eager:
        claimed = _claim_eager(task, request)
        return running.run(task, request, args=args, kwargs=kwargs, claimed=claimed, suspension=Inline())
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
    told = settling.tellable(codec.load_error(undoing.split(claimed.error)[0]))
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
    return running.run(
        task,
        request,
        args=args,
        kwargs=kwargs,
        claimed=claimed,
        suspension=suspension,
        watch=watch,
        log=logs.of(claimed),
    )


def _deliver(ended: Ended) -> object:
    """The run ended before Celery could be told: tell it now, through the tracer."""
    if ended.status == Status.COMPLETED:
        return decode_result(ended.result, ended.result_type)
    row = {"id": ended.run_id, "task": "", "status": ended.status, "error": ended.error}
    return result_of(row).unwrap()
