"""Webhooks that come in: endpoints, and what was delivered to them. Secrets go in, and out once, when they are made."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import parameters, queries, rendering
from triggerapp.api.http import Access, View, body_of, only, text
from triggerapp.engine import trials, webhooks
from triggerapp.engine.durations import duration
from triggerapp.errors import BadInput
from triggerapp.models import Delivery, Endpoint, Verdict

Json = Any
READ: Access = {"GET": ("read", "webhooks")}
WRITE: Access = {"POST": ("write", "webhooks")}
AGAIN: Access = {"POST": ("write", "deliveries")}
CHANGE: Access = {"PUT": ("write", "webhooks"), "DELETE": ("write", "webhooks")}
_TOLERANCE = timedelta(minutes=5)
_KEPT = timedelta(days=1)


def rendered(endpoint: Endpoint) -> dict[str, Json]:
    """An endpoint, with the last characters of its secrets."""
    return {
        "name": endpoint.name,
        "url": webhooks.url(endpoint),
        "preset": endpoint.preset,
        "options": endpoint.options,
        "tolerance": endpoint.tolerance.total_seconds(),
        "enabled": endpoint.disabled_at is None,
        "secrets": [
            {
                "hint": each.hint,
                "createdAt": rendering.when(each.created_at),
                "expiresAt": rendering.when(each.expires_at),
            }
            for each in endpoint.secrets.all()
        ],
        "createdAt": rendering.when(endpoint.created_at),
    }


def _issued(issued: webhooks.Issued, given: str | None) -> Response:
    """The endpoint, with its new secret if that was made here."""
    return Response({**rendered(issued.endpoint), **({} if given else {"secret": issued.secret})})


def _rules(body: dict[str, Json]) -> dict[str, Json]:
    """How deliveries are checked."""
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise BadInput('options must be an object, such as {"signature": "x-signature"}')
    return {"options": options, "tolerance": _span(body, "tolerance", _TOLERANCE)}


def _span(body: dict[str, Json], name: str, default: timedelta) -> timedelta:
    return default if body.get(name) is None else duration(name, body[name])


class EndpointList(View):
    """The environment's endpoints."""

    access: ClassVar[Access] = {**READ, **WRITE}

    def get(self, request: Request) -> Response:
        """All of them, by name."""
        return Response({"data": [rendered(each) for each in webhooks.all_of(self.principal.slug)]})

    def post(self, request: Request) -> Response:
        """A new one. A secret that is made here is told in this answer and never again."""
        body = only(body_of(request), "name", "preset", "secret", "options", "tolerance")
        given, caller = text(body, "secret"), self.principal
        preset, rules = text(body, "preset") or "standard", _rules(body)
        name = text(body, "name") or ""
        return _issued(
            webhooks.create(caller.slug, name, preset=preset, secret=given, actor=caller.actor, **rules), given
        )


class EndpointDetail(View):
    """One endpoint."""

    access: ClassVar[Access] = {**READ, **CHANGE}

    def get(self, request: Request, name: str) -> Response:
        """The endpoint as it is now."""
        return Response(rendered(webhooks.find(self.principal.slug, name)))

    def put(self, request: Request, name: str) -> Response:
        """Check its deliveries in another way; what the body leaves out is as if it were new. Its secrets stay."""
        rules = _rules(only(body_of(request), "options", "tolerance"))
        return Response(rendered(webhooks.update(self.principal.slug, name, actor=self.principal.actor, **rules)))

    def delete(self, request: Request, name: str) -> Response:
        """Delete it, with its deliveries; their events stay."""
        webhooks.remove(self.principal.slug, name, actor=self.principal.actor)
        return Response({"name": name})


class EndpointEnable(View):
    """Take deliveries again."""

    access: ClassVar[Access] = WRITE
    disabled = False

    def post(self, request: Request, name: str) -> Response:
        """From now on."""
        caller = self.principal
        return Response(rendered(webhooks.set_disabled(caller.slug, name, disabled=self.disabled, actor=caller.actor)))


class EndpointDisable(EndpointEnable):
    """Refuse all deliveries."""

    disabled = True


class EndpointRotate(View):
    """Another secret."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, name: str) -> Response:
        """The given one, or one that is made here and told once; the old ones stand for `keep`, by default a day."""
        body, caller = only(body_of(request), "secret", "keep"), self.principal
        given, keep = text(body, "secret"), _span(body, "keep", _KEPT)
        return _issued(webhooks.rotate(caller.slug, name, secret=given, keep=keep, actor=caller.actor), given)


# --- deliveries -----------------------------------------------------------------------------------


def _summary(delivery: Delivery) -> dict[str, Json]:
    return {
        "id": ids.show("delivery", delivery.pk),
        "endpoint": delivery.endpoint.name,
        "verdict": delivery.verdict,
        "code": delivery.code or None,
        "reason": delivery.reason or None,
        "type": delivery.type,
        "externalId": delivery.external_id or None,
        "event": delivery.event and ids.show("event", delivery.event),
        "size": delivery.size,
        "remote": delivery.remote,
        "receivedAt": rendering.when(delivery.received_at),
    }


def _deliveries(environment: int) -> QuerySet[Delivery]:
    return Delivery.objects.filter(environment_id=environment).select_related("endpoint")


_FILTERS: queries.Filters = {
    "filter[endpoint]": lambda _, text: Q(endpoint__name=text),
    "filter[verdict]": lambda name, text: Q(verdict=parameters.one_of(name, text, Verdict.values)),
}


class DeliveryList(View):
    """What came to the environment's endpoints."""

    access: ClassVar[Access] = READ

    def get(self, request: Request) -> Response:
        """A page of it, newest first, without headers and bodies."""
        params = request.query_params
        rows = queries.filtered(_deliveries(self.principal.environment), params, _FILTERS).defer("body", "headers")
        return Response(queries.page(rows, params, time="received_at").shown(_summary))


class DeliveryView(View):
    """A route of one delivery."""

    def delivery(self, shown: str) -> Delivery:
        """The one that the path names."""
        wanted = ids.read("delivery", shown)
        found = _deliveries(self.principal.environment).filter(pk=wanted).first()
        if found is None:
            raise ids.missing("delivery", wanted, "; they are kept for a while only")
        return found


class DeliveryDetail(DeliveryView):
    """One delivery."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, delivery: str) -> Response:
        """With its headers and its body, of a rejected one the beginning."""
        found = self.delivery(delivery)
        body = bytes(found.body).decode("utf-8", "replace")
        return Response({**_summary(found), "headers": found.headers, "body": body})


class DeliveryReplay(DeliveryView):
    """Once more."""

    access: ClassVar[Access] = AGAIN

    def post(self, request: Request, delivery: str) -> Response:
        """Make a new event of an accepted delivery."""
        event = trials.replay(self.delivery(delivery).pk, actor=self.principal.actor)
        return Response({"event": ids.show("event", event)})
