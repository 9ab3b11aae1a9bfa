"""Revoke: Celery's word for cancel.

At the caller (`app.control.revoke`, `AsyncResult.revoke`, Flower's button) and at the worker, so
that a suspended run is canceled whether or not a worker is up.
"""

from __future__ import annotations

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


def register() -> None:
    """Wrap the worker's own revoke command: the caller may know nothing of us."""
    from celery.worker.control import Panel  # noqa: PLC0415  (only in workers)

    inner = Panel.data["revoke"]
    if getattr(inner, "triggerapp", False):
        return

    def revoke(state: Any, task_id: Any, *args: Any, **options: Any) -> Any:
        for each in [task_id] if isinstance(task_id, str) else list(task_id or []):
            link.tell("canceled", task=each)
        return inner(state, task_id, *args, **options)

    revoke.triggerapp = True  # type: ignore[attr-defined]
    Panel.data["revoke"] = revoke
