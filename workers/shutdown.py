"""How a worker leaves: its runs are told at once, whichever of Celery's shutdowns it is, and given time to move out.

A warm shutdown waits for them. A cold one kills them, after `worker_soft_shutdown_timeout` if that is set, and says so
to nobody before: here what can be dumped is dumped first. A second signal ends that, as it ends Celery's own waiting.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from celery import signals
from celery.worker import state

from workers import identity
from workers.request import DurableRequest, has_answered

_DUMPS: Final = 10.0
"""Seconds for all runs of a worker to be dumped in a cold shutdown; half of what orchestrators commonly allow."""


def prepare(worker: Any) -> None:
    """Have this worker's runs leave with it."""
    signals.worker_shutting_down.connect(_leave)
    worker.wait_for_soft_shutdown = partial(_leave_and_wait, worker, worker.wait_for_soft_shutdown)


def _leave(**_: object) -> None:
    """Sent at the start of a warm shutdown, and of a cold one when it is over."""
    identity.leave()


def _leave_and_wait(worker: Any, wait: Any) -> None:
    """In place of Celery's, which is called before a cold shutdown kills what runs."""
    identity.leave()
    wait()
    if identity.home() is not None:
        _await_moves(worker.pool)


def _await_moves(pool: Any) -> None:
    """Nothing else happens in this process meanwhile: it is in the handler of a signal."""
    deadline = time.monotonic() + _DUMPS
    while time.monotonic() < deadline and not all(has_answered(pool, each.worker_pid) for each in _running()):
        time.sleep(0.02)


def _running() -> list[DurableRequest]:
    return [request for request in tuple(state.active_requests) if isinstance(request, DurableRequest)]
