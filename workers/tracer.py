"""Leaving Celery's tracer at a wait costs no more than it must, and leaving it with an end untold is no failure.

For each exception that is not a failure Celery copies its traceback twice, the code of every frame
included, and sends a copy to the worker's main process, which throws it away. A run that is
suspended leaves by such an exception, at every wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore

from workers import telling
from workers.telling import NotTold

Tracer = Callable[..., Any]


class Suspended(Ignore):
    """The run has left this worker; for Celery, the task is neither done nor failed."""

    def __init__(self, description: str = "", *, at: str | None = None) -> None:
        super().__init__(description)
        self.description = description
        self.at = at
        """The key of the wait; None if it left because its worker is shutting down."""


def adapted(tracer: Tracer, task: Any) -> Tracer:
    """The same tracer, whose word that a run was suspended comes without the frames it left.

    `NotTold` leaves it from where it handles errors; a pool of threads would lose the message.
    """

    @wraps(tracer)
    def trace(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        try:
            traced = tracer(uuid, args, kwargs, telling.guarded(task, request or {}))
        except NotTold as left:
            return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(states.IGNORED, left), 0.0, None)
        if traced.info is not None and isinstance(traced.info.retval, Suspended):
            traced.retval.tb = None
        return traced

    return trace
