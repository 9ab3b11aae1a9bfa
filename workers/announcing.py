"""What Celery's result backend says of a run that has not ended: that it waits, and that it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import states
from celery.contrib.abortable import AbortableTask
from kombu.exceptions import EncodeError

from triggerapp.engine import dispatch
from triggerapp.engine.runs import Claimed
from triggerapp.models import Status

log = logging.getLogger(__name__)

_NOT_STORED: tuple[type[Exception], ...] = (EncodeError, *dispatch.UNREACHABLE)


def announcer(task: Any, request: Any) -> Callable[[str], None]:
    """Tells Celery's result backend what the run waits for, or that it goes on."""

    def announce(description: str) -> None:
        if description:
            _store_state(task, request, state="WAITING", meta={"waiting": description})
        else:
            _store_state(task, request, state=states.STARTED)

    return announce


def resumed(task: Any, request: Any, claimed: Claimed) -> None:
    """The run goes on after a wait, or after another worker."""
    if claimed.computed:
        _store_state(task, request, state=states.STARTED)


def restore_state(task: Any, request: Any, status: str) -> None:
    """Celery noted STARTED for a message that we drop."""
    if status == Status.WAITING and task.track_started:
        _store_state(task, request, state="WAITING")


def restore_failure(task: Any, request: Any, error: Exception) -> None:
    """Celery noted STARTED for a message of a run that it was told has failed."""
    if task.track_started:
        _store_state(task, request, state=states.FAILURE, meta=error)


def _store_state(task: Any, request: Any, *, state: str, meta: object = None) -> None:
    if request.ignore_result or task.ignore_result:
        return
    try:
        if isinstance(task, AbortableTask) and task.is_aborted(task_id=request.id):
            return  # the user's word to the task, which it has yet to read
        task.backend.store_result(request.id, meta, state, request=request)
    except _NOT_STORED as error:
        log.warning("Celery's result backend was not told that %s is %s: %s", request.id, state, error)
