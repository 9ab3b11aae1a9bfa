"""Server-sent events: what the hub delivers, to one browser, under ASGI and WSGI.

A stream holds no database connection, and ends by itself after a while: the browser comes again, and is asked again who
it is. Under WSGI each open page holds a thread; for many viewers serve with ASGI.
"""

from __future__ import annotations

import asyncio
import queue
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from triggerapp.dashboard.live import Message, hub
from triggerapp.dashboard.pages import page

LIFETIME: Final = 600.0
HEARTBEAT: Final = 15.0
"""Seconds of silence after which a comment is sent, to find out whether the browser is still there."""
MOST_ROWS: Final = 100
_BREAK: Final = re.compile("\r\n|\r|\n")
_ALIVE: Final = ":\n\n"


@transaction.non_atomic_requests
@page()
def run(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What changes of one run."""
    return _stream(request, [run_id], rows=False)


@transaction.non_atomic_requests
@page()
def rows(request: HttpRequest) -> HttpResponseBase:
    """What changes in the rows of a list."""
    return _stream(request, list(_ids(request.GET.getlist("run")))[:MOST_ROWS], rows=True)


def _ids(texts: Iterable[str]) -> Iterator[UUID]:
    for text in texts:
        try:
            yield UUID(text)
        except ValueError:
            continue  # a made-up address shows nothing


def _stream(request: HttpRequest, runs: list[UUID], *, rows: bool) -> HttpResponseBase:
    connections.close_all()  # who looks was asked; nothing more is needed of the database here
    events = _events_async if isinstance(request, ASGIRequest) else _events
    response = StreamingHttpResponse(events(runs, rows), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response


def encode(message: Message) -> str:
    """A message as the protocol has it."""
    lines = "".join(f"data: {line}\n" for line in _BREAK.split(message.data))
    return f"event: {message.event}\n{lines}\n"


async def _events_async(runs: list[UUID], rows: bool) -> AsyncIterator[str]:
    loop, inbox, end = asyncio.get_running_loop(), asyncio.Queue[Message](), time.monotonic() + LIFETIME

    def deliver(message: Message) -> None:
        loop.call_soon_threadsafe(inbox.put_nowait, message)

    yield _ALIVE
    with hub.viewing(runs, deliver, rows=rows):
        while time.monotonic() < end:
            try:
                message = await asyncio.wait_for(inbox.get(), HEARTBEAT)
            except TimeoutError:
                yield _ALIVE
                continue
            yield encode(message)
            if message.event == "over":
                return


def _events(runs: list[UUID], rows: bool) -> Iterator[str]:
    inbox, end = queue.SimpleQueue[Message](), time.monotonic() + LIFETIME
    yield _ALIVE
    with hub.viewing(runs, inbox.put, rows=rows):
        while time.monotonic() < end:
            try:
                message = inbox.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield _ALIVE
                continue
            yield encode(message)
            if message.event == "over":
                return
