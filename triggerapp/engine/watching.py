"""Watching runs: one thread and one database connection for each server process and kind of watch, however many watch.

The thread asks for the state of the runs that somebody watches, all in one query, and tells of what changed. It begins
with the first watcher and ends with the last. Nothing is asked of the moves of runs: they stay as fast as they are
(see docs/decisions/0006).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from django.db import Error, connection

from triggerapp.engine import sql

log = logging.getLogger(__name__)

PAUSE: Final = 0.1
"""Seconds between two looks; after one that took longer, as long as that."""

State = tuple[object, ...]


@dataclass(eq=False, slots=True, kw_only=True)
class Watcher:
    """Somebody who watches runs."""

    runs: frozenset[UUID]
    deliver: Callable[[Any], object]
    seen: dict[UUID, State] = field(default_factory=dict)
    """What they know already; of a run that is not in here they are told first how it is."""


W = TypeVar("W", bound=Watcher)
_STATES = "SELECT id, status, updated_at FROM triggerapp_run WHERE id = ANY(%s)"


class Watch(Generic[W]):
    """Knows who watches what. What is a change, and what is said of it, is a matter of `look`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: set[W] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, watcher: W) -> Iterator[None]:
        """While it lasts, `deliver` is called in the thread of the watch."""
        with self._lock:
            self._watchers.add(watcher)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="triggerapp-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            self._leave(watcher)

    def watchers(self) -> list[W]:
        """Who watches now."""
        with self._lock:
            return list(self._watchers)

    def send(self, watcher: W, message: object) -> None:
        """Deliver one message."""
        try:
            watcher.deliver(message)
        except RuntimeError:  # its event loop is closed: it has gone without a word
            self._leave(watcher)

    def _leave(self, watcher: W) -> None:
        with self._lock:
            self._watchers.discard(watcher)

    def _run(self) -> None:
        try:
            while self._look_is_wanted():
                started = time.monotonic()
                self._look_safely()
                time.sleep(max(PAUSE, time.monotonic() - started) if self._watchers else 0)
        finally:
            connection.close()

    def _look_is_wanted(self) -> bool:
        with self._lock:
            if not self._watchers:
                self._thread = None
            return bool(self._watchers)

    def _look_safely(self) -> None:
        try:
            self.look()
        except Error as error:
            log.warning("watching runs: the database did not answer (%s)", error)
            connection.close()
            time.sleep(1)
        except Exception:
            log.exception("watching runs: a look failed")
            time.sleep(1)

    def look(self) -> None:
        """Ask once, and tell those of a run that changed."""
        watchers = self.watchers()
        states = _states({run for watcher in watchers for run in watcher.runs})
        for watcher in watchers:
            for run in watcher.runs & states.keys():
                if watcher.seen.get(run) != states[run]:
                    watcher.seen[run] = states[run]
                    self.send(watcher, run)


def _states(runs: Iterable[UUID]) -> dict[UUID, State]:
    rows = sql.rows(_STATES, [list(runs)])
    return {row.pop("id"): tuple(row.values()) for row in rows}
