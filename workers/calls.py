"""What a call of a durable task stands for: a run with its message, deadline, keys and place.

Celery's words for time (`countdown`, `eta`, `expires`) become ours here: a broker is no place to
wait in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from celery import current_task
from celery.utils.time import maybe_iso8601
from kombu.utils.functional import maybe_list

from triggerapp.errors import BadInput, BadType
from workers import context
from workers.marks import TOLD_AGAIN

if TYPE_CHECKING:
    from triggerapp.engine.dispatch import Message
    from triggerapp.engine.triggers import Trigger, Triggered
    from workers.durable import DurableTask


def request_of(
    task: DurableTask[Any, Any], message: Message, *, task_id: str, run_id: UUID, delay: Any, ours: Mapping[str, Any]
) -> Trigger:
    """The run that a captured message stands for."""
    from triggerapp.engine.triggers import Trigger  # noqa: PLC0415  (needs Django)
    from triggerapp.models.runs import new_id  # noqa: PLC0415

    fields = {name: ours[name] for name in ours.keys() - {"idempotency_key", "idempotency_scope", "ttl"}}
    nesting = message.headers.get("replaced_task_nesting") or 0
    return Trigger(
        task=task.name,
        message=message,
        queue=message.routing_key or message.exchange,
        run_id=new_id() if nesting else run_id,  # `replace` uses the task id of a run that has it as its own id
        task_id=task_id,
        nesting=nesting,
        delay=delay,
        ttl=ours.get("ttl") or _ttl(message),
        idempotency_key=_scoped(ours.get("idempotency_key"), ours.get("idempotency_scope")),
        **fields,
    )


def once_more(request: Trigger, known: Triggered) -> Triggered:
    """A task id whose run is over is another run, as in Celery; while that run lives they are one.

    Not so where Celery is told a second time how a run ended: what follows that run was sent the first time.
    """
    if _is_told_again():
        return known
    from triggerapp.engine import triggers  # noqa: PLC0415  (needs Django)
    from triggerapp.models import FINAL, Run  # noqa: PLC0415
    from triggerapp.models.runs import new_id  # noqa: PLC0415

    last = Run.objects.filter(task_id=request.task_id).order_by("-nesting").only("nesting", "status").first()
    if last is None or last.status not in FINAL or request.idempotency_key is not None:
        return known
    nesting = last.nesting + 1
    request.message.headers["replaced_task_nesting"] = nesting  # where `replace` counts on from
    return triggers.trigger(replace(request, run_id=new_id(), nesting=nesting))


def _is_told_again() -> bool:
    task = current_task
    return bool(task and getattr(task.request, TOLD_AGAIN, False))


def as_uuid(task_id: str | None) -> UUID | None:
    """A task id as a run's id, if it is a UUID."""
    try:
        return UUID(task_id) if task_id else None
    except ValueError:
        return None


def delay_of(task: DurableTask[Any, Any], delay: Any, options: dict[str, Any]) -> timedelta | datetime | None:
    """Celery's `countdown` and `eta` as our delay: a broker is no place to wait in."""
    from triggerapp.engine import durations, limits  # noqa: PLC0415  (needs Django)

    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    if delay is not None:
        return cast(timedelta, delay)
    if countdown is not None:
        return _from_now("countdown", countdown) or None
    if eta is None:
        return None
    moment = _moment("eta", eta)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=task.app.timezone)
    due = max(aware, durations.FIRST_DUE)  # of any past at all Celery makes "at once"
    limits.check_deadline("eta", due)
    return due


def check_types(task_id: object, options: Mapping[str, Any]) -> None:
    """What Celery takes as it is, and workers fail over: their message would be thrown away, and sent again."""
    if not isinstance(task_id, str | None):
        raise BadType(f"task_id={task_id!r}: it takes a string")
    for name in ("link", "link_error"):
        for each in maybe_list(options.get(name)) or ():
            if not isinstance(each, Mapping):
                raise BadType(f"{name}={each!r}: it takes a signature, as by task.s(), or a list of them")


def check_expires(expires: object) -> None:
    """Refuse what Celery would stumble over without naming it."""
    if isinstance(expires, Real):
        _from_now("expires", expires)
    elif expires is not None:
        _moment("expires", expires)


def _from_now(name: str, seconds: Any) -> timedelta:
    """Seconds as Celery takes them; a time in the past is now."""
    from triggerapp.engine import limits  # noqa: PLC0415  (needs Django)

    try:
        pause = max(timedelta(), timedelta(seconds=seconds))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}={seconds!r}: pass a number of seconds ({error})") from error
    limits.check_deadline(name, pause)
    return pause


def _moment(name: str, value: Any) -> datetime:
    try:
        moment = maybe_iso8601(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name}={value!r}: pass a datetime, or its text in ISO 8601 ({error})") from error
    return cast(datetime, moment)


def eta_of(delay: timedelta | datetime) -> str:
    """When a delayed run starts, as Celery writes it."""
    from django.utils import timezone  # noqa: PLC0415  (needs Django)

    return (timezone.now() + delay if isinstance(delay, timedelta) else delay).isoformat()


def expires_of(ttl: timedelta | datetime) -> float | datetime:
    """A time to live as Celery's `expires`."""
    return ttl.total_seconds() if isinstance(ttl, timedelta) else ttl


def _ttl(message: Message) -> datetime | None:
    expires = message.headers.get("expires")
    if expires is None:
        return None
    moment = _moment("expires", expires)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)  # as Celery's workers read it


def _scoped(key: str | None, scope: str | None) -> str | None:
    """Within a run a key is the run's own unless its scope says otherwise."""
    if key is None:
        return None
    if scope not in (None, "run", "attempt", "global"):
        raise BadInput(f"idempotency_scope is 'run', 'attempt' or 'global', not {scope!r}")
    attempt = context.current_or_none("trigger") if context.inside() else None
    if attempt is None or scope == "global":
        return key
    number = f":{attempt.number}" if scope == "attempt" else ""
    return hashlib.sha256(f"{attempt.run_id}{number}:{key}".encode()).hexdigest()
