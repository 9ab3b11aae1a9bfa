"""What programs outside of workers do: trigger, emit, ask. Each is called in a process forked for it."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from celery.exceptions import TimeoutError as CeleryTimeoutError


def trigger(task: str, arguments: list[Any], task_id: str | None = None) -> str:
    """Trigger one run; its id."""
    from tests.faults import tasks

    return str(getattr(tasks, task).apply_async(tuple(arguments), task_id=task_id).id)


def trigger_many(task: str, numbers: list[int], *arguments: Any) -> list[str]:
    """Trigger a run for each number; their ids."""
    return [trigger(task, [number, *arguments]) for number in numbers]


def emit(name: str, payload: Any, event_id: str) -> str:
    """Send an event."""
    from workers import events

    return events.send(name, payload, id=event_id)


def emit_many(name: str, numbers: list[int]) -> None:
    """Send an event for each number."""
    for number in numbers:
        emit(name, {"number": number}, f"{name} {number}")


def cancel(run: str) -> bool:
    """Cancel a run from outside, past Celery."""
    from triggerapp.engine import verbs

    return verbs.cancel(UUID(run))


def result(task_id: str, patience: float = 60.0) -> dict[str, Any]:
    """What Celery's result backend says of a task."""
    from tests.faults.tasks import app

    found = app.AsyncResult(task_id)
    try:
        found.get(timeout=patience, propagate=False)
    except CeleryTimeoutError:
        return {"state": found.state, "value": None}
    value = found.result
    return {"state": found.state, "value": value if isinstance(value, list | str | None) else repr(value)}


def results(task_ids: list[str], patience: float = 100.0) -> list[dict[str, Any]]:
    """The same for many."""
    deadline = time.monotonic() + patience
    return [result(task_id, max(0.1, deadline - time.monotonic())) for task_id in task_ids]


def trigger_or_error(task: str, arguments: list[Any], task_id: str) -> dict[str, Any]:
    """Trigger while something is down: what the caller sees."""
    try:
        accepted, error = trigger(task, arguments, task_id), None
    except Exception as problem:
        accepted, error = None, f"{type(problem).__name__}: {problem}"
    return {"accepted": accepted, "error": error}
