"""Telling Celery how a run ended: once it is in the database, nothing that befalls the telling makes another end of it.

Celery's tracer takes whatever is raised in it for the task's failure: also that the result backend, or the broker that
takes the callbacks, does not answer. FAILURE is then stored and errbacks are called, of a run that has completed, or
lives on. Here such an error says that Celery was not told yet; a tick has the end told later.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from celery.backends.base import BaseKeyValueStoreBackend
from celery.exceptions import Ignore

from workers.marks import HEADER

log = logging.getLogger(__name__)

_FAILURES: Final = "_triggerapp_failures"
"""On the request of a run: the errors that are its recorded end; there is one at most."""


class NotTold(Ignore):
    """Celery was not told what became of the run; for now the task is neither done nor failed."""


def guarded(task: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message's request, as its tracer is to have it. One that is no run yet fails as in Celery until it is."""
    backend = task.backend
    if "mark_as_failure" not in vars(backend):
        # For good, and by the first of the threads that share the backend: requests without our mark pass.
        vars(backend).setdefault("mark_as_failure", partial(_if_recorded, backend.mark_as_failure))
    return {**request, _FAILURES: []} if HEADER in request else request


def only_what_is_recorded(request: Any) -> None:
    """The request is a run's: nothing is told as its failure but what `failed` names."""
    setattr(request, _FAILURES, [])
    (request.headers or {}).pop(_FAILURES, None)  # there Celery shows a task what it does not know itself


def failed(request: Any, error: Exception) -> None:
    """This error is the run's recorded end."""
    getattr(request, _FAILURES).append(error)


def _if_recorded(mark: Any, task_id: str, exc: Exception, *args: Any, request: Any = None, **options: Any) -> Any:
    """In the place of the backend's `mark_as_failure`."""
    recorded = getattr(request, _FAILURES, None)
    if recorded is not None and not any(exc is error for error in recorded):
        log.warning("Celery was not told what became of task %s (%r); a tick has it told", task_id, exc)
        raise NotTold(f"Celery was not told yet: {exc!r}")
    return mark(task_id, exc, *args, request=request, **options)


def look(task: Any, request: Any) -> None:
    """Raise `NotTold` if results cannot be stored, before what follows the task is sent: once, not at every telling.

    Only a store of keys and values can be asked for so little. One that fails after this look is met by the guard.
    """
    is_followed = request.callbacks or request.chain
    is_stored = not (request.ignore_result or task.ignore_result)
    backend = task.backend
    if not (is_followed and is_stored and isinstance(backend, BaseKeyValueStoreBackend)):
        return
    try:
        backend.get(backend.get_key_for_task(request.id))
    except Exception as error:
        log.warning("Celery was not told that task %s has completed (%r); a tick has it told", request.id, error)
        raise NotTold(f"Celery was not told yet: {error!r}") from error
