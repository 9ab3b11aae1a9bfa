"""Storing what a run returned costs no look at what is stored.

Celery's key-value backends read a task's result before they write it, so that an execution that was thought lost does
not overwrite a success. Of a run nobody but the holder of its lease comes as far as that, and once. Where a task id is
used again, what was stored first stays, as in Celery.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celery import states
from celery.backends.base import BaseKeyValueStoreBackend

_LOOK: Final = "_get_task_meta_for"
_NOTHING: Final = {"status": states.PENDING, "result": None}


def will_be_first(task: Any, request: Any) -> None:
    """What Celery stores next for this task needs no look; everything else is looked at as ever."""
    is_stored = not (request.ignore_result or task.ignore_result)
    backend = task.backend
    if request.replaced_task_nesting or not is_stored or not _looks(backend):
        return
    backend.__dict__.pop(_LOOK, None)  # of a run whose result was not stored after all
    look = getattr(backend, _LOOK)

    def answer(task_id: str) -> Mapping[str, Any]:
        if task_id != request.id:
            found: Mapping[str, Any] = look(task_id)
            return found
        backend.__dict__.pop(_LOOK, None)
        return _NOTHING

    backend.__dict__[_LOOK] = answer


def _looks(backend: Any) -> bool:
    """Whether it is one that stores as Celery's own do."""
    return getattr(type(backend), "_store_result", None) is BaseKeyValueStoreBackend._store_result  # type: ignore[attr-defined]
