"""The display: what happens to each purchase, while it happens.

On a terminal a table that changes in place; elsewhere one plain line for each change.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from workers.demo.ledger import Entry
from workers.demo.story import Purchase
from workers.demo.verdict import Finding

STATES: Final = {
    "DELAYED": "will be tried again",
    "WAITING": "waiting, holds no worker",
    "QUEUED": "queued",
    "EXECUTING": "[yellow]on a worker[/]",
    "COMPLETED": "[green]sold[/]",
    "FAILED": "[magenta]not sold, undone[/]",
}
"""What a run's status means to the shop. A status not named here is shown as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One purchase as it stands."""

    purchase: Purchase
    status: str
    done: tuple[str, ...]
    """What the ledger says was done for it."""

    @property
    def state(self) -> str:
        return STATES.get(self.status, self.status)


class Display(Protocol):
    def say(self, text: str) -> None:
        """Tell what the demo does now."""

    def show(self, rows: Sequence[Row]) -> None:
        """Show where the purchases stand."""


class LiveDisplay:
    """A table that changes in place; what is said scrolls by above it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        self._live.console.print(f"[dim]{_elapsed(self._start)}[/] [bold]{escape(text)}[/]", highlight=False)

    def show(self, rows: Sequence[Row]) -> None:
        self._live.update(_purchases(rows))


class LineDisplay:
    """One line for each change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._shown: dict[str, Row] = {}

    def say(self, text: str) -> None:
        self._print(escape(text))

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if self._shown.get(row.purchase.ticket) != row:
                self._shown[row.purchase.ticket] = row
                self._print(
                    f"  {row.purchase.ticket}  {row.status:<10} {row.state}: {' '.join(row.done) or 'nothing yet'}"
                )

    def _print(self, text: str) -> None:
        self._console.print(f"{_elapsed(self._start)} {text}", highlight=False, soft_wrap=True)


@contextmanager
def open_display(console: Console) -> Iterator[Display]:
    """The display that fits the console."""
    if not console.is_terminal:
        yield LineDisplay(console)
        return
    with Live(console=console, refresh_per_second=10) as live:
        yield LiveDisplay(live)


def ledger_table(entries: Sequence[Entry]) -> Table:
    """The ledger, in the order written."""
    table = Table(title="The ledger of side effects", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("after", "who", "what", "by", "idempotency key"):
        table.add_column(heading, no_wrap=True)
    for entry in entries:
        table.add_row(f"{entry.at - entries[0].at:.1f} s", entry.who, entry.what, entry.by, escape(_short(entry.key)))
    return table


def verdict_table(findings: Sequence[Finding]) -> Table:
    """Each question with its answer, and the faults below it."""
    table = Table(title="The verdict", box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    for finding in findings:
        table.add_row(_answer(finding), finding.question)
        for fault in finding.faults:
            table.add_row("", f"[red]{escape(fault)}[/]")
        for excuse in finding.excuses:
            table.add_row("", f"[yellow]{escape(excuse)}[/]")
    return table


def _answer(finding: Finding) -> str:
    if finding.faults:
        return "[red]NO[/]"
    return "[yellow]not seen[/]" if finding.excuses else "[green]yes[/]"


def _short(key: str) -> str:
    """A key without the beginning of its run's id, which says when the run began and little else."""
    run, _, step = key.partition(":")
    return f"…{run[-6:]}:{step}"


def _purchases(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("ticket", "its story", "status", "state", "done so far"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.purchase.ticket, row.purchase.plot, row.status, row.state, " → ".join(row.done))
    return table


def _elapsed(start: float) -> str:
    return f"{time.monotonic() - start:5.1f} s"
