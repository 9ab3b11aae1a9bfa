"""Schedules: what people do to them, and the tick that fires them.

A due time and its run are one commit under the schedule's lock, so each fires once however many tickers there are.
What was missed while no worker ran is made up for by one run, not by one for each time.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from triggerapp import conf
from triggerapp.clock import now
from triggerapp.engine import audit, calls, cron, dispatch, environments, limits, sql, triggers
from triggerapp.engine.calls import Call
from triggerapp.errors import BadInput, DatabaseUnavailable, NotFound, TriggerError
from triggerapp.failpoints import point
from triggerapp.models import Firing, Schedule

log = logging.getLogger(__name__)

UPCOMING = 5
_SPENT = 0.25
"""Seconds that one tick gives to schedules."""
_PATIENCE = timedelta(minutes=5)
"""How long a due schedule is left to another worker if this one has no such task."""
_LONGEST_FAILURE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, and when."""

    task: str
    cron: str
    timezone: str = "UTC"
    external_id: str | None = None


def public_id(schedule: UUID) -> str:
    """As the API and the payload of a run name it."""
    return f"sched_{schedule}"


def create(environment: int, plan: Plan, *, deduplication_key: str, actor: str = "") -> Schedule:
    """A new schedule, or the one that has this key, changed. Raises `BadInput`, `BadArgument`, `NotFound`."""
    _check(plan)
    limits.check_text("deduplicationKey", deduplication_key)
    with transaction.atomic():
        defaults = {**asdict(plan), "next_at": _next(plan, now()), "created_by": actor}
        schedule, made = Schedule.objects.get_or_create(
            environment_id=environment, deduplication_key=deduplication_key, defaults=defaults
        )
        if not made:
            return _change(_locked(environment, schedule.pk), plan, actor)
        audit.record(environment, actor, "schedule.create", public_id(schedule.pk), after=_told(schedule))
    return schedule


def update(environment: int, schedule: UUID, plan: Plan, *, actor: str = "") -> Schedule:
    """Give it another plan. Raises `BadInput`, `BadArgument`, `NotFound`."""
    _check(plan)
    with transaction.atomic():
        return _change(_locked(environment, schedule), plan, actor)


def _change(schedule: Schedule, plan: Plan, actor: str) -> Schedule:
    before = _told(schedule)
    if schedule.active and (plan.cron, plan.timezone) != (schedule.cron, schedule.timezone):
        schedule.next_at = _next(plan, now())  # else kept: what is due this very moment must not be skipped
    for name, value in asdict(plan).items():
        setattr(schedule, name, value)
    if _told(schedule) != before:
        _save(schedule)
        audit.record(
            schedule.environment_id,
            actor,
            "schedule.update",
            public_id(schedule.pk),
            before=before,
            after=_told(schedule),
        )
    return schedule


def set_active(environment: int, schedule: UUID, *, active: bool, actor: str = "") -> Schedule:
    """Turn it on or off; what was due while it was off is not made up for. Raises `NotFound`."""
    with transaction.atomic():
        found = _locked(environment, schedule)
        if found.active != active:
            found.active = active
            found.next_at = cron.following(found.cron, found.timezone, now()) if active else None
            _save(found)
            action = "schedule.activate" if active else "schedule.deactivate"
            audit.record(environment, actor, action, public_id(found.pk))
    return found


def delete(environment: int, schedule: UUID, *, actor: str = "") -> None:
    """Delete it; its runs stay. Raises `NotFound`."""
    with transaction.atomic():
        found = _locked(environment, schedule)
        audit.record(environment, actor, "schedule.delete", public_id(schedule), before=_told(found))
        found.delete()


def find(environment: int, schedule: UUID) -> Schedule:
    """The schedule. Raises `NotFound`."""
    return _found(Schedule.objects.filter(pk=schedule, environment_id=environment), schedule)


def _locked(environment: int, schedule: UUID) -> Schedule:
    rows = Schedule.objects.select_for_update().filter(pk=schedule, environment_id=environment)
    return _found(rows, schedule)


def _found(rows: QuerySet[Schedule], schedule: UUID) -> Schedule:
    found = rows.first()
    if found is None:
        raise NotFound(f"there is no schedule {public_id(schedule)}")
    return found


def _check(plan: Plan) -> None:
    """Also that the task takes what it will be given."""
    cron.check(plan.cron, plan.timezone)
    limits.check_text("externalId", plan.external_id)
    moment = now()
    call = _call(plan.task, _payload(Schedule(**asdict(plan)), moment, moment))
    calls.arguments(plan.task, call.payload)


def _next(plan: Plan, after: datetime) -> datetime | None:
    return cron.following(plan.cron, plan.timezone, after)


def _told(schedule: Schedule) -> dict[str, Any]:
    """What the audit log says of it."""
    names = ("task", "cron", "timezone", "external_id", "deduplication_key", "active")
    return {name: getattr(schedule, name) for name in names}


def _save(schedule: Schedule) -> None:
    schedule.updated_at = now()
    schedule.save()


# --- firing ---------------------------------------------------------------------------------------


def fire(seconds: float = _SPENT) -> bool:
    """Trigger what is due in this environment, for a while; whether there is more to do."""
    due = _due()
    if not due.exists():
        return False
    known = dispatch.durable_tasks()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not _fire_one(known):
            return False
    return True


def _due() -> QuerySet[Schedule]:
    return Schedule.objects.filter(environment_id=environments.current(), next_at__lte=Now()).order_by("next_at")


def _fire_one(known: Sequence[str]) -> bool:
    with transaction.atomic():
        ours = Q(task__in=known) | Q(next_at__lte=Now() - _PATIENCE)
        schedule = _due().filter(ours).select_for_update(skip_locked=True).first()
        if schedule is None or schedule.next_at is None:
            return False
        due, moment = schedule.next_at, now()
        firing, is_new = Firing.objects.get_or_create(schedule=schedule, due_at=due)
        if is_new:
            firing.run, firing.failure = _start(schedule, due, moment)
            firing.save(update_fields=["run", "failure"])
        Schedule.objects.filter(pk=schedule.pk).update(
            last_at=due, next_at=cron.following(schedule.cron, schedule.timezone, max(due, moment))
        )
        point("fire.before_commit")
    point("fire.after_commit")
    return True


def _start(schedule: Schedule, due: datetime, moment: datetime) -> tuple[UUID | None, str]:
    """The run, or why there is none: one schedule that cannot start must not keep the others waiting."""
    try:
        with transaction.atomic():
            call = _call(schedule.task, _payload(schedule, due, moment))
            triggered = triggers.trigger(calls.request_of(call), environment=schedule.environment_id)
    except (OperationalError, InterfaceError, DatabaseUnavailable):
        raise
    except Exception as error:
        if not isinstance(error, TriggerError):
            log.exception("schedule %s started no run", schedule.pk)
        return None, limits.storable(str(error) or type(error).__name__)[:_LONGEST_FAILURE]
    return triggered.run_id, ""


def _call(task: str, payload: dict[str, Any]) -> Call:
    """The payload is the one argument of a task that needs one; all others are called without."""
    found = dispatch.durable_task(task) if isinstance(task, str) else None
    if found is None:
        raise NotFound(f"there is no durable task {str(task)[:200]!r}")
    needed = [
        parameter
        for parameter in inspect.signature(found.run).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return Call(task=task, payload={"args": [payload], "kwargs": {}} if needed else calls.MISSING)


def _payload(schedule: Schedule, due: datetime, moment: datetime) -> dict[str, Any]:
    """What Trigger.dev tells a scheduled run."""
    payload = {
        "scheduleId": public_id(schedule.pk),
        "type": "IMPERATIVE",
        "timestamp": due,
        "lastTimestamp": schedule.last_at,
        "externalId": schedule.external_id,
        "timezone": schedule.timezone,
        "upcoming": cron.upcoming(schedule.cron, schedule.timezone, max(due, moment), UPCOMING),
    }
    return {name: value for name, value in payload.items() if value is not None}


def of_run(run: UUID) -> Schedule | None:
    """The schedule that started it."""
    firing = Firing.objects.select_related("schedule").filter(run=run).first()
    return None if firing is None else firing.schedule


def plan_of(fields: dict[str, Any]) -> Plan:
    """What a caller says, whatever it is; `create` and `update` check it."""
    for name in ("task", "cron"):
        if not isinstance(fields.get(name), str):
            raise BadInput(f"{name} must be a text")
    return Plan(
        task=fields["task"],
        cron=fields["cron"],
        timezone=fields.get("timezone") or "UTC",
        external_id=fields.get("external_id") or None,
    )


def prune() -> int:
    """Forget the firings that are older than runs are kept; how many."""
    return sql.run(
        "DELETE FROM triggerapp_firing WHERE fired_at < now() - %s::interval AND schedule_id IN "
        "(SELECT id FROM triggerapp_schedule WHERE environment_id = %s)",
        [conf.get().RUN_RETENTION, environments.current()],
    )
