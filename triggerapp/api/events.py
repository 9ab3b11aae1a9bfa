"""Events: named facts, sent from outside; each is accepted once and reaches every wait that matches it."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import conf
from triggerapp.api import ids, rendering
from triggerapp.api.http import Access, View, without_none
from triggerapp.engine import events, limits, tokens
from triggerapp.errors import BadInput, NotFound, PayloadTooLarge
from triggerapp.models import Event, Wait

_MOST = 1000
_FIELDS = {"name", "payload", "id"}
_REACHED = 1000


class EventList(View):
    """Send events."""

    access: ClassVar[Access] = {"POST": ("write", "events")}

    def post(self, request: Request) -> Response:
        """One event, or a list of them. The same `id` twice is one event: a request that broke off is sent again."""
        many = isinstance(request.data, list)
        bodies = request.data if many else [request.data]
        if not 0 < len(bodies) <= _MOST:
            raise BadInput(f"send 1 to {_MOST:,} events at once")
        read = [_read(body) for body in bodies]
        caller = self.principal
        sent = [
            events.emit_as(caller.environment, name, payload, external_id=external_id, actor=caller.actor)
            for name, payload, external_id in read
        ]
        rows = [{"id": ids.show("event", event.id), "isCached": event.cached} for event in sent]
        return Response({"data": rows} if many else rows[0])


def _read(body: Any) -> tuple[str, str, str | None]:
    """Name, payload as JSON text, and the sender's id. Raises `BadInput`."""
    if not isinstance(body, dict):
        raise BadInput("an event must be an object with a name")
    for unknown in body.keys() - _FIELDS:
        raise BadInput(f"an event has no {unknown!r:.60}; it has {', '.join(sorted(_FIELDS))}")
    name, external_id = body.get("name"), body.get("id")
    limits.check_text("name", name or "")
    limits.check_text("id", external_id)
    try:
        payload = tokens.value_of(json.dumps(body.get("payload")).encode())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the payload is not JSON that can be stored: {error}") from error
    if len(payload.encode()) > conf.get().MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"a payload may have {conf.get().MAX_VALUE_BYTES:,} bytes")
    return str(name), payload, external_id


class EventDetail(View):
    """One event."""

    access: ClassVar[Access] = {"GET": ("read", "events")}

    def get(self, request: Request, event: str) -> Response:
        """The event, and the waits and runs that it has reached."""
        found = Event.objects.filter(pk=ids.read("event", event), environment_id=self.principal.environment).first()
        if found is None:
            raise NotFound(f"there is no event {event}")
        reached = Wait.objects.filter(event=found.pk).order_by("id").values_list("id", "run_id")[:_REACHED]
        waits = [{"id": ids.show("waitpoint", w), "run": run and ids.show("run", run)} for w, run in reached]
        source = found.source_run and ids.show("run", found.source_run)
        fields = {"payload": found.payload, "createdAt": rendering.when(found.created_at), "waits": waits}
        own = without_none({"externalId": found.external_id, "sourceRun": source})
        return Response({"id": ids.show("event", found.pk), "name": found.name, **fields, **own})
