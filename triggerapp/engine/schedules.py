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

from triggerapp import conf, ids
from triggerapp.clock import now
from triggerapp.engine import audit, calls, catalog, cron, environments, limits, sql, triggers
from triggerapp.engine.calls import Call
from triggerapp.engine.triggers import Trigger
from triggerapp.errors import BadInput, DatabaseUnavailable, TriggerError
from triggerapp.failpoints import point
from triggerapp.models import Firing, Schedule

log = logging.getLogger(__name__)

UPCOMING = 5
_SPENT = 0.25
"""Seconds that one tick gives to schedules."""
_PATIENCE = timedelta(minutes=5)
"""How long a due schedule is left to another worker if this one has no such task."""
_LONGEST_FAILURE = 1000
_AT_ONCE = 50
_OUTAGES = (OperationalError, InterfaceError, DatabaseUnavailable)


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
        raise ids.missing("sched", schedule)
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


def run_now(environment: int, schedule: UUID, *, actor: str = "") -> UUID:
    """Trigger its task as if it were due now, also while it is off; its due times stay. The run.

    Raises `NotFound`, and what the task says to its payload.
    """
    with transaction.atomic():
        found, moment = _locked(environment, schedule), now()
        request = calls.request_of(_call(found.task, _payload(found, moment, moment)))
        triggers.trigger_many([request], environment=environment)
        Firing.objects.create(schedule=found, due_at=moment, run=request.run_id, actor=actor or "code")
        after = {"run": str(request.run_id)}
        audit.record(environment, actor, "schedule.run", public_id(schedule), after=after)
    return request.run_id


# --- firing ---------------------------------------------------------------------------------------


def fire(seconds: float = _SPENT) -> bool:
    """Trigger what is due in this environment, for a while; whether there is more to do."""
    here = environments.current()
    if not _due(here).exists():
        return False
    known = catalog.durable_tasks()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not _fire_some(here, known):
            return False
    return True


def _due(environment: int) -> QuerySet[Schedule]:
    return Schedule.objects.filter(environment_id=environment, next_at__lte=Now()).order_by("next_at")


def _fire_some(environment: int, known: Sequence[str]) -> int:
    """Fire a few at once: many people's schedules are due at nine. How many there were."""
    ours = Q(task__in=known) | Q(next_at__lte=Now() - _PATIENCE)
    with transaction.atomic():
        found = list(_due(environment).filter(ours).select_for_update(skip_locked=True)[:_AT_ONCE])
        if not found:
            return 0
        moment = now()
        prepared = [_prepared(schedule, moment) for schedule in found]
        new = _note([firing for firing, _ in prepared])
        failures = _start(environment, [pair for pair in prepared if pair[0].schedule_id in new])
        for firing, failure in failures:
            Firing.objects.filter(schedule=firing.schedule_id, due_at=firing.due_at).update(run=None, failure=failure)
        _move_on(found, moment)
        point("fire.before_commit")
    point("fire.after_commit")
    return len(found)


def _prepared(schedule: Schedule, moment: datetime) -> tuple[Firing, Trigger | None]:
    """The firing that is due, and the run that it asks for, or why there is none."""
    assert schedule.next_at is not None
    firing = Firing(schedule=schedule, due_at=schedule.next_at)
    try:
        with transaction.atomic():  # listeners to Celery's signals may do anything
            request = calls.request_of(_call(schedule.task, _payload(schedule, schedule.next_at, moment)))
    except _OUTAGES:
        raise
    except Exception as error:  # noqa: BLE001  (`_said` logs what is a bug)
        firing.failure = _said(firing, error)
        return firing, None
    firing.run = request.run_id
    return firing, request


def _note(firings: Sequence[Firing]) -> set[UUID]:
    """Write them down; the schedules whose due time was not fired before, as it was if a clock was set back."""
    rows = sql.rows(
        "INSERT INTO triggerapp_firing (schedule_id, due_at, run, failure) "
        f"VALUES {', '.join(['(%s, %s, %s, %s)'] * len(firings))} "
        "ON CONFLICT (schedule_id, due_at) DO NOTHING RETURNING schedule_id",
        [value for each in firings for value in (each.schedule_id, each.due_at, each.run, each.failure)],
    )
    return {row["schedule_id"] for row in rows}


def _start(environment: int, prepared: Sequence[tuple[Firing, Trigger | None]]) -> list[tuple[Firing, str]]:
    """Accept the runs; those that could not be, with the reason: one must not keep the others waiting."""
    asked = [(firing, request) for firing, request in prepared if request is not None]
    if not asked:
        return []
    try:
        with transaction.atomic():
            triggers.trigger_many([request for _, request in asked], environment=environment)
    except _OUTAGES:
        raise
    except Exception as error:  # noqa: BLE001  (as above)
        if len(asked) == 1:
            return [(asked[0][0], _said(asked[0][0], error))]
        return [failure for pair in asked for failure in _start(environment, [pair])]
    return []


def _said(firing: Firing, error: Exception) -> str:
    if not isinstance(error, TriggerError):
        log.error("schedule %s started no run", firing.schedule_id, exc_info=error)
    return limits.storable(str(error) or type(error).__name__)[:_LONGEST_FAILURE]


def _move_on(fired: Sequence[Schedule], moment: datetime) -> None:
    for schedule in fired:
        assert schedule.next_at is not None
        after, schedule.last_at = max(schedule.next_at, moment), schedule.next_at
        schedule.next_at = cron.following(schedule.cron, schedule.timezone, after)
    Schedule.objects.bulk_update(fired, ["last_at", "next_at"])


def _call(task: str, payload: dict[str, Any]) -> Call:
    """The payload is the one argument of a task that needs one; all others are called without."""
    found = catalog.durable_task(task) if isinstance(task, str) else None
    if found is None:
        raise catalog.missing(task)
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


_OLD_FIRING = (
    "fired_at < now() - %s::interval AND schedule_id IN (SELECT id FROM triggerapp_schedule WHERE environment_id = %s)"
)


def prune(limit: int = 1000) -> int:
    """Forget the firings that are older than runs are kept; how many."""
    params = [conf.get().RUN_RETENTION, environments.current()]
    return sql.delete_some("triggerapp_firing", _OLD_FIRING, params, limit=limit)
