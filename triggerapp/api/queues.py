"""Queues: look at them, pause and resume them, override their concurrency.

Numbers are of live runs only, of which there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import parameters, rendering
from triggerapp.api.http import Access, View, body_of, numbered
from triggerapp.engine import queues
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import Queue

Json = dict[str, Any]
_TYPES = ("id", "custom", "task")
_BY_ID = 'queue with the id {}; if that is its name, send the type "custom" in the {}'


def rendered(found: Sequence[Queue]) -> list[Json]:
    """Queues of one environment as Trigger.dev's schemas want them. None is limited yet, whatever somebody set."""
    loads = queues.loads(found[0].environment_id) if found else {}
    return [
        {
            "id": ids.show("queue", queue.pk),
            "name": queue.name,
            "type": "custom",
            "running": loads.get(queue.pk, queues.Load()).running,
            "queued": loads.get(queue.pk, queues.Load()).queued,
            "paused": queue.paused,
            "concurrencyLimit": queue.override,
            "concurrency": {
                "current": None,
                "base": None,
                "override": queue.override,
                "overriddenAt": rendering.when(queue.overridden_at),
                "overriddenBy": queue.overridden_by,
            },
            "version": "V1",
        }
        for queue in found
    ]


class QueueList(View):
    """The environment's queues."""

    access: ClassVar[Access] = {"GET": ("read", "queues")}

    def get(self, request: Request) -> Response:
        """A page of them, by name."""
        found = Queue.objects.filter(environment_id=self.principal.environment).order_by("name")
        return numbered(request, found, rendered)


class QueueView(View):
    """A route of one queue."""

    narrow: ClassVar[tuple[str, ...]] = ("queues",)

    def queue(self, text: str, kind: object) -> Queue:
        """The queue of this id, or of this name."""
        by_id = parameters.one_of("type", kind, _TYPES) == "id"
        name = unquote(text)  # the SDK writes a slash in a name as %2F twice over
        wanted = _by_id(name) if by_id else Q(name=name.replace("\0", "\N{REPLACEMENT CHARACTER}"))
        place = "query" if self.request.method == "GET" else "body"
        what = _BY_ID.format(f"{name!r:.80}", place) if by_id else f"queue of the name {name!r:.80}"
        found = Queue.objects.filter(wanted, environment_id=self.principal.environment).first()
        if found is None:
            raise NotFound(f"there is no {what}")
        self.require([("queues", found.name), ("queues", ids.show("queue", found.pk))], what)
        return found


def _by_id(text: str) -> Q:
    number = text.removeprefix("queue_")
    return Q(pk=int(number)) if number.isdecimal() and len(number) < 19 else Q(pk__in=[])


class QueueDetail(QueueView):
    """One queue."""

    access: ClassVar[Access] = {"GET": ("read", "queues")}

    def get(self, request: Request, queue: str) -> Response:
        """The queue as it is now."""
        return Response(rendered([self.queue(queue, request.query_params.get("type", "id"))])[0])


class QueuePause(QueueView):
    """Stop and start a queue."""

    access: ClassVar[Access] = {"POST": ("write", "queues")}

    def post(self, request: Request, queue: str) -> Response:
        """Pause: no run is started; resume: they are."""
        body = body_of(request)
        found, action = self.queue(queue, body.get("type", "id")), body.get("action")
        if action not in ("pause", "resume"):
            raise BadInput(f"action={action!r:.40} must be pause or resume")
        queues.set_paused(found.environment_id, found.name, paused=action == "pause", actor=self.principal.actor)
        found.refresh_from_db()
        return Response(rendered([found])[0])


class QueueOverride(QueueView):
    """Set how many runs of a queue may run at once."""

    access: ClassVar[Access] = {"POST": ("write", "queues")}

    def post(self, request: Request, queue: str) -> Response:
        """Override what the code says."""
        body = body_of(request)
        found = self.queue(queue, body.get("type", "id"))
        limit: Any = body.get("concurrencyLimit")
        queues.override(found.environment_id, found.name, limit, actor=self.principal.actor)
        found.refresh_from_db()
        return Response(rendered([found])[0])


class QueueReset(QueueView):
    """Undo an override."""

    access: ClassVar[Access] = {"POST": ("write", "queues")}

    def post(self, request: Request, queue: str) -> Response:
        """Back to what the code says."""
        found = self.queue(queue, body_of(request).get("type", "id"))
        queues.reset_override(found.environment_id, found.name, actor=self.principal.actor)
        found.refresh_from_db()
        return Response(rendered([found])[0])
