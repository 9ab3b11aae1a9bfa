"""Realtime: subscriptions of Trigger.dev's SDK to a run, to the runs with a tag, to those of a batch.

A question is held for a while if nothing is new. It then holds no database connection, and under ASGI no thread unless
a middleware does: what changes is found for all of them at once (`engine.watching`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp.api import batches, parameters, runs, shapes
from triggerapp.api.http import Access, View
from triggerapp.engine.durations import duration
from triggerapp.engine.watching import Watch, Watcher
from triggerapp.errors import BadInput
from triggerapp.models import BatchItem, Run
from triggerapp.models.runs import TAGGED

HELD: Final = 20.0
"""Seconds that a question is held at most; the SDK asks again."""
HELD_FOR_NEW: Final = 2.0
"""The same where runs may come that nobody could have watched before."""
MOST: Final = 100
"""Runs with a tag, the newest ones."""
SEEN: Final = ("id", "status", "updated_at")
"""What tells whether a run is new to somebody; these questions come again every other second."""
_MOST_TAGS: Final = 10
_READ: Access = {"GET": ("read", "runs")}


class Waiting(Response):
    """Nothing is new: the question is to be held until one of these runs changes."""

    def __init__(self, found: Sequence[Run], *, held: float) -> None:
        super().__init__()
        self.seen = {run.id: (run.status, run.updated_at) for run in found}
        self.held = held


class Shape:
    """What the subscriptions have in common."""

    held = HELD
    strict = False  # the client of Electric sends parameters of its own, in each version others

    def answer(self, request: Request, found: Sequence[Run], *, name: str, waited: bool) -> Response:
        """What is new; nothing new only after it was waited for, or at once if the asker does not want to wait."""
        params = request.query_params
        skip, live = shapes.skipped(params.get("skipColumns", "")), parameters.flag("live", params.get("live", ""))
        handle = "-".join([name, *sorted(skip)])
        offset = params.get("offset", "-1")
        if offset != "-1" and params.get("handle", handle) != handle:
            return shapes.start_again(handle)
        new = shapes.answer(found, handle=handle, offset=offset, skip=skip)
        if new is None and live and not waited:
            return Waiting(found, held=self.held)
        return new or shapes.unchanged(handle=handle, offset=offset)


class RealtimeRun(Shape, runs.RunView):
    """Subscribe to one run."""

    access: ClassVar[Access] = _READ

    def get(self, request: Request, run: str, *, waited: bool = False) -> Response:
        """The run, and each of its changes."""
        found = self.run(run)
        return self.answer(request, [found], name=str(found.id), waited=waited)


class RealtimeRuns(Shape, View):
    """Subscribe to the runs with a tag."""

    access: ClassVar[Access] = _READ
    narrow: ClassVar[tuple[str, ...]] = ("tags",)
    held = HELD_FOR_NEW

    def get(self, request: Request, *, waited: bool = False) -> Response:
        """The newest runs that have all of these tags, and each of their changes."""
        text = request.query_params.get("tags")
        tags = parameters.texts("tags", text) if text else []
        if not 0 < len(tags) <= _MOST_TAGS:
            raise BadInput(f"tags must be 1 to {_MOST_TAGS} tags, separated by commas")
        for tag in tags:
            self.require([("tags", tag)], "such tag")
        since = duration("createdAt", request.query_params.get("createdAt") or "24h")
        found = Run.objects.filter(
            TAGGED, environment_id=self.principal.environment, tags__contains=tags, created_at__gte=Now() - since
        )
        newest = list(found.only(*SEEN).order_by("-created_at", "-id")[:MOST])
        return self.answer(request, newest, name="tags", waited=waited)


class RealtimeBatch(Shape, batches.BatchDetail):
    """Subscribe to the runs of a batch."""

    held = HELD_FOR_NEW

    def get(self, request: Request, batch: str, *, waited: bool = False) -> Response:
        """All runs of the batch, and each of their changes."""
        found = self.batch(batch)
        members = Run.objects.filter(pk__in=BatchItem.objects.filter(batch=found).values("run"))
        return self.answer(request, list(members.only(*SEEN).order_by("id")), name=str(found.id), waited=waited)


watch: Final = Watch[Watcher]()


def held(view: type[View]) -> Callable[..., HttpResponseBase]:
    """The view as a route: an answer that has to be waited for is asked for again when the wait is over."""
    look = view.as_view()

    @csrf_exempt
    @transaction.non_atomic_requests
    async def route(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        found = await sync_to_async(_look)(look, request, **kwargs)
        if not isinstance(found, Waiting):
            return found
        await changed(found.seen, within=found.held)
        return await sync_to_async(look)(request, **kwargs, waited=True)

    route.cls = view  # type: ignore[attr-defined]  # as Django and REST framework mark theirs
    return cast(Callable[..., HttpResponseBase], route)  # Django calls either kind


def _look(look: Callable[..., HttpResponseBase], request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    found = look(request, **kwargs)
    if isinstance(found, Waiting):
        connections.close_all()  # of this thread: nothing more is asked of the database while it waits
    return found


async def changed(seen: dict[UUID, Any], *, within: float) -> None:
    """Return when one of these runs is no longer as it was seen, or when the time is over."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    watcher = Watcher(runs=frozenset(seen), deliver=lambda _: loop.call_soon_threadsafe(news.set), seen=dict(seen))
    with watch.watching(watcher), suppress(TimeoutError):
        await asyncio.wait_for(news.wait(), within)
