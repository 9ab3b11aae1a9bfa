"""Schedules: tasks triggered by the clock, made and changed by programs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, JsonResponse
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import parameters, rendering
from triggerapp.api.http import Access, View, body_of, numbered, only
from triggerapp.api.methods import takes
from triggerapp.engine import cron, schedules
from triggerapp.engine.schedules import Plan
from triggerapp.errors import BadInput
from triggerapp.models import Schedule

Json = dict[str, Any]
_PLAN = ("task", "cron", "timezone", "externalId")


def generator(schedule: Schedule) -> Json:
    """What makes it due, also in words."""
    return {"type": "CRON", "expression": schedule.cron, "description": cron.describe(schedule.cron)}


def rendered(found: list[Schedule], environment: str) -> list[Json]:
    """Schedules as Trigger.dev's schemas want them."""
    return [
        {
            "id": schedules.public_id(schedule.pk),
            "type": "IMPERATIVE",
            "task": schedule.task,
            "active": schedule.active,
            "deduplicationKey": schedule.deduplication_key,
            "externalId": schedule.external_id,
            "generator": generator(schedule),
            "timezone": schedule.timezone,
            "nextRun": rendering.when(schedule.next_at),
            "environments": [{"id": environment, "type": _TYPES.get(environment, "PREVIEW")}],
        }
        for schedule in found
    ]


_TYPES = {"dev": "DEVELOPMENT", "staging": "STAGING", "prod": "PRODUCTION"}


def _plan(body: Json) -> Plan:
    return schedules.plan_of({**body, "external_id": body.get("externalId")})


class ScheduleView(View):
    """A route of one schedule."""

    def key(self, schedule: str) -> tuple[int, Any]:
        """Environment and id, as the engine asks for them."""
        return self.principal.environment, ids.read("sched", schedule)

    def shown(self, schedule: Schedule) -> Response:
        """The schedule as it is now."""
        return Response(rendered([schedule], self.principal.slug)[0])


class ScheduleList(ScheduleView):
    """The environment's schedules."""

    access: ClassVar[Access] = {"GET": ("read", "schedules"), "POST": ("write", "schedules")}

    def get(self, request: Request) -> Response:
        """A page of them, the newest first."""
        found = Schedule.objects.filter(environment_id=self.principal.environment).order_by("-created_at", "-id")
        return numbered(request, found, lambda rows: rendered(rows, self.principal.slug))

    def post(self, request: Request) -> Response:
        """A new one, or the one with this deduplication key, changed."""
        body = only(body_of(request), *_PLAN, "deduplicationKey")
        key = body.get("deduplicationKey")
        if key is None:
            raise BadInput("deduplicationKey is missing: with it the same call twice makes one schedule")
        environment, actor = self.principal.environment, self.principal.actor
        return self.shown(schedules.create(environment, _plan(body), deduplication_key=key, actor=actor))


class ScheduleDetail(ScheduleView):
    """One schedule."""

    access: ClassVar[Access] = {
        "GET": ("read", "schedules"),
        "PUT": ("write", "schedules"),
        "DELETE": ("write", "schedules"),
    }

    def get(self, request: Request, schedule: str) -> Response:
        """The schedule as it is now."""
        return self.shown(schedules.find(*self.key(schedule)))

    def put(self, request: Request, schedule: str) -> Response:
        """Give it another plan; what the body leaves out is as if it were new."""
        plan = _plan(only(body_of(request), *_PLAN))
        return self.shown(schedules.update(*self.key(schedule), plan, actor=self.principal.actor))

    def delete(self, request: Request, schedule: str) -> Response:
        """Delete it; its runs stay."""
        environment, found = self.key(schedule)
        schedules.delete(environment, found, actor=self.principal.actor)
        return Response({"id": schedules.public_id(found)})


class ScheduleActivate(ScheduleView):
    """Turn a schedule on."""

    access: ClassVar[Access] = {"POST": ("write", "schedules")}

    def post(self, request: Request, schedule: str) -> Response:
        """From now on it fires."""
        return self.shown(schedules.set_active(*self.key(schedule), active=True, actor=self.principal.actor))


class ScheduleDeactivate(ScheduleView):
    """Turn a schedule off."""

    access: ClassVar[Access] = {"POST": ("write", "schedules")}

    def post(self, request: Request, schedule: str) -> Response:
        """It fires no more until it is turned on."""
        return self.shown(schedules.set_active(*self.key(schedule), active=False, actor=self.principal.actor))


@takes("GET", "HEAD")
def timezones(request: HttpRequest) -> JsonResponse:
    """What a schedule may name as its time zone. The SDK asks without a key; it tells nothing of what is stored."""
    parameters.check(request)
    parameters.only(request.GET, "excludeUtc")
    names = cron.timezones()
    without = parameters.flag("excludeUtc", request.GET.get("excludeUtc", ""))
    return JsonResponse({"timezones": names[1:] if without else names})
