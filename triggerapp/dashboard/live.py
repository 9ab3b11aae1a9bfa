"""Live pages: what changed of a run is rendered once for all who look at it (see `engine.watching`).

A viewer looks at the page of one run, with its log, or at rows of a list.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.template.loader import render_to_string

from triggerapp.dashboard import detail, queries
from triggerapp.dashboard import logs as log_lines
from triggerapp.dashboard.logs import LogFilter
from triggerapp.dashboard.run import of
from triggerapp.engine import sql
from triggerapp.engine.watching import State, Watch, Watcher
from triggerapp.models.moves import FINAL

ALL: Final = LogFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What goes to a browser."""

    event: str
    data: str
    id: str = ""
    """What the page has with it (see `Viewer.place`): a browser that comes again goes on from there."""


@dataclass(eq=False, slots=True, kw_only=True)
class Viewer(Watcher):
    """Somebody who looks at runs: at the page of one, or at rows of a list."""

    rows: bool
    log: LogFilter
    """Which lines are wanted on the page of a run."""
    line: int
    """The last line that was delivered."""
    shown: str = ""
    """The status for which the page has its buttons: they are left alone, with what is filled in, until it changes."""

    @property
    def place(self) -> str:
        """The last line and the status that the page has."""
        return f"{self.line} {self.shown}"


_STATES = """
SELECT r.id, r.status, r.updated_at, r.lease, r.attempt,
  (SELECT max(s.id) FROM triggerapp_step s WHERE s.run_id = r.id AND NOT s.superseded) AS step,
  (SELECT count(*) FROM triggerapp_wait w WHERE w.run_id = r.id AND w.status <> 'pending') AS resolved,
  (SELECT string_agg(c.status, ',' ORDER BY c.id) FROM triggerapp_run c
    WHERE c.parent_id = r.id AND c.parent_key IS NOT NULL) AS children,
  (SELECT max(l.id) FROM triggerapp_logline l WHERE l.run_id = r.id) AS line
FROM triggerapp_run r WHERE r.id = ANY(%s)
"""


class Hub(Watch[Viewer]):
    """Knows who looks at what."""

    @contextmanager
    def viewing(
        self,
        runs: Iterable[UUID],
        deliver: Callable[[Message], object],
        *,
        rows: bool,
        log: LogFilter = ALL,
        line: int = 0,
        shown: str = "",
    ) -> Iterator[None]:
        """While it lasts, `deliver` is called in the hub's thread with what changes, and first with what is."""
        viewer = Viewer(runs=frozenset(runs), deliver=deliver, rows=rows, log=log, line=line, shown=shown)
        with self.watching(viewer):
            yield

    def look(self) -> None:
        """Ask once, and deliver what changed."""
        viewers = self.watchers()
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
                    self.send(viewer, Message(event="over", data=str(states[run][0])))
        self._deliver_rows(rows, states)
        for (run, wanted, line), lookers in logs.items():
            self._deliver_log(run, wanted, line, lookers, last=lines[run])
        for run, lookers in pages.items():
            self._deliver_page(run, lookers, states[run])

    def _deliver_rows(self, changed: Mapping[UUID, list[Viewer]], states: Mapping[UUID, State]) -> None:
        for row in queries.by_ids(changed) if changed else ():
            # Its cells only: were the row itself replaced, what comes before htmx hears for the new one would be lost.
            html = render_to_string("triggerapp/dashboard/_cells.html", {"run": row})
            for viewer in changed[row.id]:
                viewer.seen[row.id] = states[row.id]
                self.send(viewer, Message(event=f"run-{row.id}", data=html))

    def _deliver_page(self, run: UUID, lookers: list[Viewer], state: State) -> None:
        context, status = of(detail.facts(run)), str(state[0])
        parts = [
            Message(event=name, data=render_to_string(f"triggerapp/dashboard/_{name}.html", context))
            for name in ("facts", "timeline")
        ]
        for viewer in lookers:
            viewer.seen[run] = state
            for part in parts:
                self.send(viewer, part)
            if viewer.shown != status:
                viewer.shown = status
                self.send(viewer, Message(event="status", data=status, id=viewer.place))

    def _deliver_log(self, run: UUID, wanted: LogFilter, line: int, lookers: list[Viewer], *, last: int) -> None:
        """What was said since, once for all who want the same; who is far behind gets the rest at the next look."""
        rows = log_lines.after(run, wanted, line).rows
        html = render_to_string("triggerapp/dashboard/_lines.html", {"rows": rows}) if rows else ""
        shown = rows[-1].id if rows else 0  # may be newer than what was the last line when the look began
        for viewer in lookers:
            viewer.line = shown if len(rows) >= log_lines.SHOWN - 1 else max(last, shown)
            if html:
                self.send(viewer, Message(event="log", data=html, id=viewer.place))


def _states(runs: Iterable[UUID]) -> tuple[dict[UUID, State], dict[UUID, int]]:
    """How runs stand, and the last line of each."""
    rows = sql.rows(_STATES, [list(runs)])
    lines = {row["id"]: row.pop("line") or 0 for row in rows}
    return {row.pop("id"): tuple(row.values()) for row in rows}, lines


hub: Final = Hub()
