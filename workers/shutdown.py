"""How a worker leaves: its runs are told at once, whichever of Celery's shutdowns it is, and given time to move out.

A warm shutdown waits for them. A cold one kills them, after `worker_soft_shutdown_timeout` if that is set, and says so
to nobody before: here what can be dumped is dumped first. A second signal kills what still runs at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery import signals
from celery.worker import state

from workers import identity
from workers.request import DurableRequest, has_answered

_DUMPS: Final = 7.0
"""Seconds since runs were told in which a cold shutdown kills none that may be dumped; Docker grants 10 in all."""
_LOOK: Final = 0.02


def prepare(worker: Any) -> None:
    """Have this worker's runs leave with it."""
    leaving = _Leaving()
    worker.wait_for_soft_shutdown = partial(leaving.wait, worker, worker.wait_for_soft_shutdown)
    signals.worker_shutting_down.connect(leaving.tell)  # kept as long as the worker is, by the line above


class _Leaving:
    """A worker's leave-taking."""

    def __init__(self) -> None:
        self._told: float | None = None

    def tell(self, **_: object) -> None:
        """Have runs stop at their next step or wait, or be dumped. Celery's signal of a cold one comes too late."""
        identity.leave()
        self._told = self._told or time.monotonic()

    def wait(self, worker: Any, softly: Callable[[], None]) -> None:
        """In place of what Celery calls before a cold shutdown kills what runs."""
        self.tell()
        softly()
        while self._may_move() and not all(has_answered(worker.pool, each.worker_pid) for each in _running()):
            time.sleep(_LOOK)

    def _may_move(self) -> bool:
        """Only where runs are dumped: what leaves at a step may be far from its next."""
        return identity.home() is not None and self._told is not None and time.monotonic() - self._told < _DUMPS


def _running() -> list[DurableRequest]:
    return [request for request in tuple(state.active_requests) if isinstance(request, DurableRequest)]
