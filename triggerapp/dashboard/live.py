"""Live pages: one thread and one database connection for each server process, however many look.

The thread asks for the state of the runs that somebody looks at, all in one query, and has what changed rendered once
for all of them. It begins with the first viewer and ends with the last. Nothing is asked of the engine: moves of runs
stay as fast as they are (see docs/decisions/0006).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.db import Error, connection
from django.template.loader import render_to_string

from triggerapp.dashboard import detail, queries
from triggerapp.dashboard import logs as log_lines
from triggerapp.dashboard.logs import LogFilter
from triggerapp.dashboard.run import of
from triggerapp.engine import sql
from triggerapp.models.moves import FINAL

log = logging.getLogger(__name__)

PAUSE: Final = 0.1
"""Seconds between two looks; after one that took longer, as long as that."""

State = tuple[object, ...]
ALL: Final = LogFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What goes to a browser."""

    event: str
    data: str
    id: int = 0
    """The last line of a log that it brings: a browser that comes again goes on from there."""


@dataclass(eq=False, slots=True, kw_only=True)
class Viewer:
    """Somebody who looks at runs: at the page of one, or at rows of a list."""

    runs: frozenset[UUID]
    deliver: Callable[[Message], object]
    rows: bool
    log: LogFilter
    """Which lines are wanted on the page of a run."""
    line: int
    """The last line that was delivered."""
    seen: dict[UUID, State] = field(default_factory=dict)


_STATES = """
SELECT r.id, r.status, r.updated_at, r.lease, r.attempt,
  (SELECT max(s.id) FROM triggerapp_step s WHERE s.run_id = r.id AND NOT s.superseded) AS step,
  (SELECT count(*) FROM triggerapp_wait w WHERE w.run_id = r.id AND w.status <> 'pending') AS resolved,
  (SELECT string_agg(c.status, ',' ORDER BY c.id) FROM triggerapp_run c
    WHERE c.parent_id = r.id AND c.parent_key IS NOT NULL) AS children,
  (SELECT max(l.id) FROM triggerapp_logline l WHERE l.run_id = r.id) AS line
FROM triggerapp_run r WHERE r.id = ANY(%s)
"""


class Hub:
    """Knows who looks at what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._viewers: set[Viewer] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def viewing(
        self,
        runs: Iterable[UUID],
        deliver: Callable[[Message], object],
        *,
        rows: bool,
        log: LogFilter = ALL,
        line: int = 0,
    ) -> Iterator[None]:
        """While it lasts, `deliver` is called in the hub's thread with what changes, and first with what is."""
        viewer = Viewer(runs=frozenset(runs), deliver=deliver, rows=rows, log=log, line=line)
        with self._lock:
            self._viewers.add(viewer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="triggerapp-live", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            self._leave(viewer)

    def _leave(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.discard(viewer)

    def _run(self) -> None:
        try:
            while self._look_is_wanted():
                started = time.monotonic()
                self._look_safely()
                time.sleep(max(PAUSE, time.monotonic() - started) if self._viewers else 0)
        finally:
            connection.close()

    def _look_is_wanted(self) -> bool:
        with self._lock:
            if not self._viewers:
                self._thread = None
            return bool(self._viewers)

    def _look_safely(self) -> None:
        try:
            self.look()
        except Error as error:
            log.warning("live pages: the database did not answer (%s)", error)
            connection.close()
            time.sleep(1)
        except Exception:
            log.exception("live pages: a look failed")
            time.sleep(1)

    def look(self) -> None:
        """Ask once, and deliver what changed."""
        with self._lock:
            viewers = list(self._viewers)
        states, lines = _states({run for viewer in viewers for run in viewer.runs})
        pages: dict[UUID, list[Viewer]] = defaultdict(list)
        rows: dict[UUID, list[Viewer]] = defaultdict(list)
        logs: dict[tuple[UUID, LogFilter, int], list[Viewer]] = defaultdict(list)
        for viewer in viewers:
            for run in viewer.runs & states.keys():
                if not viewer.rows and lines[run] > viewer.line:
                    logs[run, viewer.log, viewer.line].append(viewer)
                if viewer.seen.get(run) != states[run]:
                    (rows if viewer.rows else pages)[run].append(viewer)
                elif not viewer.rows and states[run][0] in FINAL and lines[run] <= viewer.line:
                    self._send(viewer, Message(event="over", data=str(states[run][0])))
        self._deliver_rows(rows, states)
        for (run, wanted, line), lookers in logs.items():
            self._deliver_log(run, wanted, line, lookers, last=lines[run])
        for run, lookers in pages.items():
            self._deliver_page(run, lookers, states[run])

    def _deliver_rows(self, changed: Mapping[UUID, list[Viewer]], states: Mapping[UUID, State]) -> None:
        for row in queries.by_ids(changed) if changed else ():
            html = render_to_string("triggerapp/dashboard/_row.html", {"run": row})
            for viewer in changed[row.id]:
                viewer.seen[row.id] = states[row.id]
                self._send(viewer, Message(event=f"run-{row.id}", data=html))

    def _deliver_page(self, run: UUID, lookers: list[Viewer], state: State) -> None:
        context, status = of(detail.facts(run)), str(state[0])
        parts = [
            Message(event=name, data=render_to_string(f"triggerapp/dashboard/_{name}.html", context))
            for name in ("facts", "timeline")
        ]
        for viewer in lookers:
            before = viewer.seen.get(run)
            viewer.seen[run] = state
            for part in parts:
                self._send(viewer, part)
            if before is None or before[0] != status:
                self._send(viewer, Message(event="status", data=status))

    def _deliver_log(self, run: UUID, wanted: LogFilter, line: int, lookers: list[Viewer], *, last: int) -> None:
        """What was said since, once for all who want the same; who is far behind gets the rest at the next look."""
        rows = log_lines.after(run, wanted, line).rows
        html = render_to_string("triggerapp/dashboard/_lines.html", {"rows": rows}) if rows else ""
        for viewer in lookers:
            viewer.line = rows[-1].id if len(rows) >= log_lines.SHOWN - 1 else last
            if html:
                self._send(viewer, Message(event="log", data=html, id=viewer.line))

    def _send(self, viewer: Viewer, message: Message) -> None:
        try:
            viewer.deliver(message)
        except RuntimeError:  # its event loop is closed: it has gone without a word
            self._leave(viewer)


def _states(runs: Iterable[UUID]) -> tuple[dict[UUID, State], dict[UUID, int]]:
    """How runs stand, and the last line of each."""
    rows = sql.rows(_STATES, [list(runs)])
    lines = {row["id"]: row.pop("line") or 0 for row in rows}
    return {row.pop("id"): tuple(row.values()) for row in rows}, lines


hub: Final = Hub()
