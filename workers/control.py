"""Revoke: Celery's word for cancel.

At the caller (`app.control.revoke`, `AsyncResult.revoke`, Flower's button) and at the worker, so
that a suspended run is canceled whether or not a worker is up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app.control import Control
from django.apps import apps

from workers import link


class DurableControl(Control):
    """Celery's remote control, that also cancels runs in the database."""

    def revoke(self, task_id: Any, *args: Any, **options: Any) -> Any:
        """Cancel the runs of these task ids, then tell the workers as ever."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if apps.ready:
            from triggerapp.engine import verbs  # noqa: PLC0415  (needs Django)

            for each in ids:
                verbs.cancel_task(each, actor="revoke")
        return super().revoke(task_id, *args, **options)

    def revoke_by_stamped_headers(self, headers: Any, *args: Any, **options: Any) -> Any:
        """Cancel the runs that carry one of these stamps, then tell the workers as ever."""
        if apps.ready:
            from triggerapp.engine import verbs  # noqa: PLC0415  (needs Django)

            verbs.cancel_stamped(headers, actor="revoke_by_stamped_headers")
        return super().revoke_by_stamped_headers(headers, *args, **options)


def register() -> None:
    """Wrap the worker's own commands: the caller may know nothing of us."""
    _wrap("revoke", _cancel)
    _wrap("terminate", lambda signal, task_id, **_: _cancel(task_id))
    _wrap("revoke_by_stamped_headers", _cancel_stamped)


def _wrap(name: str, before: Callable[..., None]) -> None:
    from celery.worker.control import Panel  # noqa: PLC0415  (only in workers)

    inner = Panel.data[name]
    if getattr(inner, "triggerapp", False):
        return

    def command(state: Any, *args: Any, **options: Any) -> Any:
        before(*args, **options)
        return inner(state, *args, **options)

    command.triggerapp = True  # type: ignore[attr-defined]
    Panel.data[name] = command


def _cancel(task_id: Any, *_: Any, **__: Any) -> None:
    for each in [task_id] if isinstance(task_id, str) else list(task_id or []):
        link.tell("canceled", task=each)


def _cancel_stamped(headers: Any, *_: Any, **__: Any) -> None:
    stamps = dict(pair.split("=", 1) for pair in headers) if isinstance(headers, list) else headers
    link.tell("stamped", stamps=stamps)
