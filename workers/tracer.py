"""Leaving Celery's tracer at a wait costs no more than it must.

For each exception that is not a failure Celery copies its traceback twice, the code of every frame
included, and sends a copy to the worker's main process, which throws it away. A run that is
suspended leaves by such an exception, at every wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from celery.exceptions import Ignore

Tracer = Callable[..., Any]


class Suspended(Ignore):
    """The run has left this worker; for Celery, the task is neither done nor failed."""

    def __init__(self, description: str = "", *, at: str | None = None) -> None:
        super().__init__(description)
        self.description = description
        self.at = at
        """The key of the wait; None if it left because its worker is shutting down."""


def lightened(tracer: Tracer) -> Tracer:
    """The same tracer, whose word that a run was suspended comes without the frames it left."""

    @wraps(tracer)
    def trace(*args: Any, **kwargs: Any) -> Any:
        traced = tracer(*args, **kwargs)
        if traced.info is not None and isinstance(traced.info.retval, Suspended):
            traced.retval.tb = None
        return traced

    return trace
