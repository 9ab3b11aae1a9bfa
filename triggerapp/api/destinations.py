"""Webhooks that go out: destinations, and the notices that they were sent of runs that ended."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import queries, rendering
from triggerapp.api.http import Access, View, body_of, only, text, texts
from triggerapp.api.webhooks import AGAIN, CHANGE, READ, WRITE
from triggerapp.engine import destinations, notices, posting
from triggerapp.models import Destination, Notice

Json = Any


def rendered(destination: Destination) -> dict[str, Json]:
    """A destination, with the last characters of its secret; of its URL the origin, for the rest often is one too."""
    return {
        "name": destination.name,
        "origin": posting.origin(destination.url),
        "wants": destination.wants,
        "tasks": destination.tasks,
        "enabled": destination.disabled_at is None,
        "hint": destination.hint,
        "createdAt": rendering.when(destination.created_at),
    }


def _plan(body: dict[str, Json]) -> dict[str, Json]:
    wants = texts(body, "wants") or destinations.FAILURES
    return {"url": text(body, "url") or "", "wants": wants, "tasks": texts(body, "tasks")}


class DestinationList(View):
    """The environment's destinations."""

    access: ClassVar[Access] = {**READ, **WRITE}

    def get(self, request: Request) -> Response:
        """All of them, by name."""
        return Response({"data": [rendered(each) for each in destinations.all_of(self.principal.slug)]})

    def post(self, request: Request) -> Response:
        """A new one; its secret is told in this answer and never again."""
        body, caller = only(body_of(request), "name", "url", "wants", "tasks"), self.principal
        issued = destinations.create(caller.slug, text(body, "name") or "", actor=caller.actor, **_plan(body))
        return Response({**rendered(issued.destination), "secret": issued.secret})


class DestinationDetail(View):
    """One destination."""

    access: ClassVar[Access] = {**READ, **CHANGE}

    def get(self, request: Request, name: str) -> Response:
        """The destination as it is now."""
        return Response(rendered(destinations.find(self.principal.slug, name)))

    def put(self, request: Request, name: str) -> Response:
        """What it hears of from now on; without a `url` it keeps the one it has. Its secret stays."""
        plan = _plan(only(body_of(request), "url", "wants", "tasks"))
        return Response(rendered(destinations.update(self.principal.slug, name, actor=self.principal.actor, **plan)))

    def delete(self, request: Request, name: str) -> Response:
        """Delete it, with what it was to be told."""
        destinations.remove(self.principal.slug, name, actor=self.principal.actor)
        return Response({"name": name})


class DestinationEnable(View):
    """Tell it again."""

    access: ClassVar[Access] = WRITE
    disabled = False

    def post(self, request: Request, name: str) -> Response:
        """From now on."""
        caller = self.principal
        found = destinations.set_disabled(caller.slug, name, disabled=self.disabled, actor=caller.actor)
        return Response(rendered(found))


class DestinationDisable(DestinationEnable):
    """Tell it nothing."""

    disabled = True


class DestinationRotate(View):
    """Another secret."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, name: str) -> Response:
        """It stands at once, and is told once."""
        only(body_of(request))
        issued = destinations.rotate(self.principal.slug, name, actor=self.principal.actor)
        return Response({**rendered(issued.destination), "secret": issued.secret})


# --- notices --------------------------------------------------------------------------------------


def _notice(notice: Notice) -> dict[str, Json]:
    return {
        "id": ids.show("notice", notice.pk),
        "destination": notice.destination.name,
        "type": notice.kind,
        "run": None if notice.kind == notices.TEST else ids.show("run", notice.about),
        "deliveredBy": notice.run and ids.show("run", notice.run),
        "status": notice.status,
        "error": notice.error or None,
        "tries": notice.tries,
        "createdAt": rendering.when(notice.created_at),
        "deliveredAt": rendering.when(notice.delivered_at),
    }


def _notices(environment: int) -> QuerySet[Notice]:
    return Notice.objects.filter(environment_id=environment).select_related("destination")


_FILTERS: queries.Filters = {"filter[destination]": lambda _, text: Q(destination__name=text)}


class NoticeList(View):
    """What the environment's destinations were told."""

    access: ClassVar[Access] = READ

    def get(self, request: Request) -> Response:
        """A page of it, newest first."""
        params = request.query_params
        rows = queries.filtered(_notices(self.principal.environment), params, _FILTERS)
        return Response(queries.page(rows, params, time="created_at").shown(_notice))


class NoticeRetry(View):
    """Deliver it once more."""

    access: ClassVar[Access] = AGAIN

    def post(self, request: Request, notice: str) -> Response:
        """At once, in place of the tries that were still to come."""
        wanted = ids.read("notice", notice)
        found = _notices(self.principal.environment).filter(pk=wanted).first()
        if found is None:
            raise ids.missing("notice", wanted, "; they are kept for a while only")
        return Response(_notice(notices.retry(found.pk, actor=self.principal.actor)))
