"""Server-sent events: what the hub delivers, to one browser, under ASGI and WSGI.

A stream holds no database connection, and ends by itself after a while: the browser comes again, and is asked again who
it is. Under WSGI each open page holds a thread; for many viewers serve with ASGI.
"""

from __future__ import annotations

import asyncio
import queue
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Final
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from triggerapp import ids
from triggerapp.dashboard.asked import number_or_none
from triggerapp.dashboard.live import Message, hub
from triggerapp.dashboard.logs import LogFilter
from triggerapp.dashboard.pages import page
from triggerapp.models import Status

Look = Callable[[Callable[[Message], object]], AbstractContextManager[None]]
"""Looks at something for as long as it is entered; what is seen is delivered."""

LIFETIME: Final = 600.0
HEARTBEAT: Final = 15.0
"""Seconds of silence after which a comment is sent, to find out whether the browser is still there."""
MOST_ROWS: Final = 100
_BREAK: Final = re.compile("\r\n|\r|\n")
_ALIVE: Final = b":\n\n"


@transaction.non_atomic_requests
@page()
def run(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What changes of one run, and what it says."""
    line, shown = _place(request)
    look = partial(hub.viewing, [run_id], rows=False, log=LogFilter.parse(request), line=line, shown=shown)
    return _stream(request, look)


def _place(request: HttpRequest) -> tuple[int, str]:
    """The last line and the status on the page; a browser, or a tab, that comes again says itself what it has."""
    loaded = f"{request.GET.get('line', '')} {request.GET.get('status', '')}"
    line, _, status = (request.headers.get("Last-Event-ID") or request.GET.get("place") or loaded).partition(" ")
    return number_or_none(line) or 0, status if status in Status.values else ""


@transaction.non_atomic_requests
@page()
def rows(request: HttpRequest) -> HttpResponseBase:
    """What changes in the rows of a list."""
    asked = (ids.parsed("run", text) for text in request.GET.getlist("run"))
    shown = [run_id for run_id in asked if run_id][:MOST_ROWS]  # a made-up address shows nothing
    return _stream(request, partial(hub.viewing, shown, rows=True))


def _stream(request: HttpRequest, look: Look) -> HttpResponseBase:
    connections.close_all()  # who looks was asked; nothing more is needed of the database here
    events = _events_async if isinstance(request, ASGIRequest) else _events
    response = StreamingHttpResponse(events(look), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response


@lru_cache(maxsize=64)
def encode(message: Message) -> bytes:
    """A message as the protocol has it; made once for all who are sent it."""
    lines = "".join(f"data: {line}\n" for line in _BREAK.split(message.data))
    last = f"id: {message.id}\n" if message.id else ""
    return f"event: {message.event}\n{last}{lines}\n".encode("utf-8", "replace")


async def _events_async(look: Look) -> AsyncIterator[bytes]:
    loop, inbox, end = asyncio.get_running_loop(), asyncio.Queue[Message](), time.monotonic() + LIFETIME

    def deliver(message: Message) -> None:
        loop.call_soon_threadsafe(inbox.put_nowait, message)

    yield _ALIVE
    with look(deliver):
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    messages = [await inbox.get()]
            except TimeoutError:
                yield _ALIVE
                continue
            while not inbox.empty():  # what came together goes together
                messages.append(inbox.get_nowait())
            yield b"".join(map(encode, messages))
            if messages[-1].event == "over":
                return


def _events(look: Look) -> Iterator[bytes]:
    inbox, end = queue.SimpleQueue[Message](), time.monotonic() + LIFETIME
    yield _ALIVE
    with look(inbox.put):
        while time.monotonic() < end:
            try:
                message = inbox.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield _ALIVE
                continue
            yield encode(message)
            if message.event == "over":
                return
