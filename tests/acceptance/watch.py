"""What monitors see: every event of the cluster's workers, kept by task, and Flower's picture of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from celery import Celery
from celery.events.state import State

_events: dict[str, list[dict[str, Any]]] = defaultdict(list)
_state = State()


def events(task_id: str) -> list[dict[str, Any]]:
    """The events of a task so far, in order."""
    return list(_events[task_id])


def types(task_id: str) -> list[str]:
    """What happened to a task, without what its client told."""
    return [event["type"] for event in events(task_id) if event["type"] != "task-sent"]


def state_of(task_id: str) -> str | None:
    """What Flower shows: the state that Celery's own event machine arrives at."""
    task = _state.tasks.get(task_id)
    return None if task is None else str(task.state)


@contextmanager
def watching(app: Celery) -> Iterator[None]:
    """Receive events in a thread, from the beginning on."""
    connection, subscribed = app.connection_for_read(), Event()
    receiver = app.events.Receiver(connection, handlers={"*": _take})
    receiver.on_consume_ready = lambda *_, **__: subscribed.set()
    # Without a timeout: after one it would subscribe anew, and what is told meanwhile would be lost.
    thread = Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
    thread.start()
    assert subscribed.wait(120)
    yield
    receiver.should_stop = True  # which it looks at once a second
    thread.join(120)
    connection.release()


def _take(event: dict[str, Any]) -> None:
    if "uuid" in event:
        _events[event["uuid"]].append(event)
    _state.event(event)
