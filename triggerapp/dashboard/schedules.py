"""Schedules: what is triggered by the clock, when next, and what came of it."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from triggerapp import ids
from triggerapp.clock import about_now
from triggerapp.dashboard import actions, asked, overviews, posted
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import catalog, cron, environments, schedules
from triggerapp.engine.schedules import Plan
from triggerapp.levels import Level, actor
from triggerapp.models import Firing, Schedule

Json = Any
_FIRINGS = 50


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """All schedules of an environment."""
    environment = environment_in(request.GET)
    context = {
        "title": "Schedules",
        "active": "schedules",
        "chosen": {"environment": environment},
        "environments": asked.environment_names(request),
        "rows": [{**row, "words": cron.describe(row["cron"])} for row in overviews.schedules(environment)],
        "tasks": catalog.offered(),
        "timezones": cron.timezones(),
    }
    return render(request, "schedules.html", context)


@page()
def one(request: HttpRequest, schedule_id: UUID) -> HttpResponseBase:
    """When it is due next, and what it started."""
    schedule = _found(schedule_id)
    context = {
        "title": schedule.task,
        "active": "schedules",
        "schedule": schedule,
        "public_id": schedules.public_id(schedule.pk),
        "words": cron.describe(schedule.cron),
        "upcoming": upcoming(schedule),
        "firings": Firing.objects.filter(schedule=schedule).order_by("-due_at")[:_FIRINGS],
    }
    return render(request, "schedule.html", context)


def _found(schedule_id: UUID) -> Schedule:
    found = Schedule.objects.select_related("environment").filter(pk=schedule_id).first()
    if found is None:
        raise ids.missing("sched", schedule_id)
    return found


def upcoming(schedule: Schedule) -> list[tuple[datetime, str]]:
    """The next five due times, in UTC and as the clocks there show them. None while it is off."""
    if not schedule.active:
        return []
    zone: tzinfo = ZoneInfo(schedule.timezone)
    moments = cron.upcoming(schedule.cron, schedule.timezone, about_now(), schedules.UPCOMING)
    return [(moment, f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}") for moment in moments]


@page(Level.OPERATE, methods=("POST",))
def create(request: HttpRequest) -> HttpResponseBase:
    """A new schedule."""
    text = {name: request.POST.get(name, "").strip() for name in ("task", "cron", "timezone", "external_id")}
    plan = Plan(
        task=text["task"],
        cron=text["cron"],
        timezone=text["timezone"] or "UTC",
        external_id=text["external_id"] or None,
    )
    environment = environments.find(posted.environment(request))
    made = schedules.create(environment, plan, deduplication_key=f"dashboard-{uuid4()}", actor=actor(request))
    actions.say(request, "The schedule is made.")
    return redirect("triggers:schedule", made.pk)


@page(Level.OPERATE, methods=("POST",))
def run_now(request: HttpRequest, schedule_id: UUID) -> HttpResponseBase:
    """Do not wait for the clock."""
    schedule = _found(schedule_id)
    run = schedules.run_now(schedule.environment_id, schedule.pk, actor=actor(request))
    actions.say(request, "It is triggered now; when it is due next stays as it was.")
    return redirect("triggers:run", run)


@page(Level.OPERATE, methods=("POST",))
def switch(request: HttpRequest, schedule_id: UUID) -> HttpResponseBase:
    """Turn it on or off."""
    schedule, active = _found(schedule_id), posted.switch(request, "active")
    schedules.set_active(schedule.environment_id, schedule.pk, active=active, actor=actor(request))
    actions.say(request, "It is on." if active else "It is off: what is due meanwhile is not made up for.")
    return redirect("triggers:schedule", schedule.pk)


@page(Level.ADMINISTER, methods=("POST",))
def delete(request: HttpRequest, schedule_id: UUID) -> HttpResponseBase:
    """Delete it; its runs stay."""
    schedule = _found(schedule_id)
    schedules.delete(schedule.environment_id, schedule.pk, actor=actor(request))
    actions.say(request, "The schedule is deleted; its runs stay.")
    return redirect(reverse("triggers:schedules") + "?" + urlencode({"environment": schedule.environment.slug}))
