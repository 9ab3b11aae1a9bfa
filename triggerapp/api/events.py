"""Events: named facts, sent from outside.

Each is accepted once, reaches every wait that matches it and starts every task that is subscribed to it.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import conf, ids
from triggerapp.api import rendering
from triggerapp.api.http import Access, View, without_none
from triggerapp.engine import durations, events, limits, tokens
from triggerapp.errors import BadInput, PayloadTooLarge, of_one
from triggerapp.models import Event, Wait

_MOST = 1000
_FIELDS = {"name", "payload", "id", "deliverAt", "deliverAfter"}
_REACHED = 1000
Sending = tuple[str, str, str | None, events.Deadline]
"""Name, payload as JSON text, the sender's id, and when to deliver it."""


class EventList(View):
    """Send events."""

    access: ClassVar[Access] = {"POST": ("write", "events")}

    def post(self, request: Request) -> Response:
        """One event, or a list of them. The same `id` twice is one event: a request that broke off is sent again."""
        many = isinstance(request.data, list)
        bodies = request.data if many else [request.data]
        if not 0 < len(bodies) <= _MOST:
            raise BadInput(f"send 1 to {_MOST:,} events at once")
        read = [_one_of_many(number, body) for number, body in enumerate(bodies)] if many else [_read(request.data)]
        caller = self.principal
        sent = [
            events.emit_as(caller.environment, name, payload, external_id=id, deliver=deliver, actor=caller.actor)
            for name, payload, id, deliver in read
        ]
        rows = [{"id": ids.show("event", event.id), "isCached": event.cached} for event in sent]
        return Response({"data": rows} if many else rows[0])


def _one_of_many(number: int, body: Any) -> Sending:
    """The same, of a list; a refusal names the event."""
    try:
        return _read(body)
    except BadInput as error:
        raise of_one(f"events[{number}]", error) from error


def _read(body: Any) -> Sending:
    """What an event says. Raises `BadInput`."""
    if not isinstance(body, dict):
        raise BadInput("an event must be an object with a name")
    for unknown in body.keys() - _FIELDS:
        raise BadInput(f"an event has no {unknown!r:.60}; it has {', '.join(sorted(_FIELDS))}")
    name, external_id = body.get("name"), body.get("id")
    limits.check_text("name", name or "")
    limits.check_text("id", external_id)
    try:
        payload = tokens.value_of(json.dumps(body.get("payload")).encode())
    except ValueError as error:
        raise BadInput(f"the payload is not JSON that can be stored: {error}") from error
    if len(payload.encode()) > conf.get().MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"a payload may have {conf.get().MAX_VALUE_BYTES:,} bytes")
    return str(name), payload, external_id, _deadline(body)


def _deadline(body: dict[str, Any]) -> events.Deadline:
    at, after = body.get("deliverAt"), body.get("deliverAfter")
    if at is not None and after is not None:
        raise BadInput("send deliverAt or deliverAfter, not both")
    if after is None:
        return None if at is None else durations.due("deliverAt", at)
    return durations.duration("deliverAfter", after)


class EventDetail(View):
    """One event."""

    access: ClassVar[Access] = {"GET": ("read", "events")}

    def get(self, request: Request, event: str) -> Response:
        """The event, the waits that it has reached and the runs that it has started."""
        return Response(_rendered(_find(event, self.principal.environment)))


class EventCancel(View):
    """Call an event off."""

    access: ClassVar[Access] = {"POST": ("write", "events")}

    def post(self, request: Request, event: str) -> Response:
        """One that is to be delivered later, and was not yet; doing it twice changes nothing."""
        found = _find(event, self.principal.environment)
        events.cancel(found.pk, environment=found.environment_id, actor=self.principal.actor)
        return Response(_rendered(_find(event, self.principal.environment)))


def _find(event: str, environment: int) -> Event:
    wanted = ids.read("event", event)
    found = Event.objects.filter(pk=wanted, environment_id=environment).first()
    if found is None:
        raise ids.missing("event", wanted)
    return found


def _rendered(event: Event) -> dict[str, Any]:
    reached = Wait.objects.filter(event=event.pk).order_by("id").values_list("id", "run_id")[:_REACHED]
    waits = [{"id": ids.show("waitpoint", w), "run": run and ids.show("run", run)} for w, run in reached]
    source = event.source_run and ids.show("run", event.source_run)
    when = {"createdAt": rendering.when(event.created_at), "deliverAt": rendering.when(event.deliver_at)}
    own = without_none({"externalId": event.external_id, "sourceRun": source, **when})
    fields = {"status": event.status.upper(), "payload": event.payload, "waits": waits, "runs": _started(event)}
    return {"id": ids.show("event", event.pk), "name": event.name, **fields, **own}


def _started(event: Event) -> list[dict[str, Any]]:
    """The tasks that are subscribed to it, each with its run, or why there is none; neither if it is yet to start."""
    return [
        without_none({"task": start.task, "id": start.run and ids.show("run", start.run), "error": start.error or None})
        for start in event.starts.order_by("id")[:_REACHED]
    ]
