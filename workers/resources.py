"""What a process closes before its image is made and opens again afterwards.

Everything that Celery and Django hold is closed without being asked. TCP connections that stay open are cut: their
owner sees a closed connection after the wait, and most libraries connect anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[[], object])


class NotClosed(Exception):
    """What was registered cannot be closed, so that this process cannot be dumped; nothing of it is closed now."""


@dataclass(frozen=True, slots=True)
class _Resource:
    name: str
    close: Callable[[], object]
    reopen: Callable[[], object] | None


_registered: list[_Resource] = []
_warm_ups: list[Callable[[], object]] = []


def checkpointable(
    resource: T, *, close: Callable[[T], object], reopen: Callable[[T], object] | None = None
) -> Callable[[], None]:
    """Have `close(resource)` called before this process is dumped at a wait, and `reopen(resource)` after it.

    For what no image can carry: connections over unix sockets, devices, locks that others wait for. The process goes on
    after the wait with the same objects, here or elsewhere. If `close` raises, the run waits without an image; what
    `reopen` raises is raised at the wait. Returns a function that takes it back.
    """
    name = type(resource).__name__
    entry = _Resource(name, lambda: close(resource), None if reopen is None else lambda: reopen(resource))
    _registered.append(entry)

    def forget() -> None:
        with suppress(ValueError):
            _registered.remove(entry)

    return forget


def warm_up(fn: F) -> F:
    """Have `fn()` called once per worker in the process that run processes are forked from.

    What it loads is shared by all of them, and in no image. It must leave no connection and no thread behind.
    """
    _warm_ups.append(fn)
    return fn


def run_warm_ups() -> None:
    """Call what was registered with `warm_up`."""
    for fn in _warm_ups:
        fn()


def registered() -> tuple[object, ...]:
    """What is registered by now, to compare with later."""
    return tuple(_registered)


def close_registered() -> None:
    """Close what was registered, newest first. Raises `NotClosed`, with the others open again, if one cannot be."""
    closed: list[_Resource] = []
    for entry in reversed(_registered):
        try:
            entry.close()
        except Exception as error:
            _reopen(reversed(closed))
            raise NotClosed(f"closing {entry.name} raised {error!r:.500}") from error
        closed.append(entry)


def reopen_registered() -> None:
    """Open it again, oldest first."""
    _reopen(_registered)


def _reopen(entries: Iterable[_Resource]) -> None:
    for entry in entries:
        if entry.reopen is not None:
            entry.reopen()


def close_everything(app: Any) -> None:
    """Close the connections to database, broker, results and caches; all of them are made anew on use."""
    from django.core.cache import caches  # noqa: PLC0415  (needs Django, which importing us must not)
    from django.db import connections  # noqa: PLC0415
    from kombu import pools  # noqa: PLC0415

    connections.close_all()
    for cache in caches.all(initialized_only=True):
        cache.close()
    _close_backend(app)
    pools.reset()
    app._pool = None
    if "amqp" in app.__dict__:
        app.amqp._producer_pool = None
    _close_log_files()


def _close_backend(app: Any) -> None:
    backend = getattr(app._local, "backend", None) or app._backend_cache
    client = None if backend is None else backend.__dict__.get("client")
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        pool.disconnect()


def _close_log_files() -> None:
    """A log file may be elsewhere, or rotated, where the process goes on; handlers open theirs anew."""
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference()
        if isinstance(handler, logging.FileHandler):
            handler.close()
        elif handler is not None:
            with suppress(OSError, ValueError):
                handler.flush()
