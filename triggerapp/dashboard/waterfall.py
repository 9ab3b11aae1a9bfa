"""A run's life as bars on one time line: attempts, steps, waits, checkpoints and children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.urls import NoReverseMatch, reverse

from triggerapp.dashboard.detail import Facts
from triggerapp.dashboard.logs import LogFilter
from triggerapp.models import Attempt, Checkpoint, Restore, Step, Wait, WaitKind, WaitStatus
from triggerapp.templatetags.triggers import duration, short, size

WIDTH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One bar."""

    kind: str
    label: str
    start: datetime
    end: datetime
    is_open: bool = False
    """It has no end yet: the one that it is given is now."""
    status: str = ""
    public_status: str = ""
    """Of a child: its name in the API, which its status alone does not tell."""
    note: str = ""
    link: str = ""
    said: int = 0
    """How many lines were logged in it."""
    lines: str = ""
    """The filter of the log that shows them."""
    x: int = 0
    width: int = 0

    @property
    def took(self) -> timedelta:
        """Its length."""
        return self.end - self.start

    @property
    def goes_on_since(self) -> datetime | None:
        """Its start, as long as it has no end."""
        return self.start if self.is_open else None

    @property
    def is_bad(self) -> bool:
        """Whether it ended in an error."""
        return self.status in ("failed", "crashed", "timed_out")


TICKS = 5


def ticks(facts: Facts) -> list[str]:
    """The scale above the bars: from the creation to the end, or to now."""
    total = _total(facts)
    return ["0", *(duration(total * n / (TICKS - 1)) for n in range(1, TICKS))]


def _total(facts: Facts) -> timedelta:
    return max(facts.until - facts.run.created_at, timedelta(milliseconds=1))


def spans(facts: Facts) -> list[Span]:
    """The bars of a run, in the order in which they began."""
    begin, total = facts.run.created_at, _total(facts)
    placed = []
    for span in sorted(_all(facts), key=lambda span: (span.start, _ORDER.index(span.kind))):
        x = _share(span.start - begin, total)
        placed.append(_placed(span, x, max(2, _share(span.end - begin, total) - x)))
    return placed


_ORDER = ("queue", "attempt", "step", "wait", "checkpoint", "restore", "run")


def _share(part: timedelta, total: timedelta) -> int:
    return min(WIDTH, max(0, round(WIDTH * (part / total))))


def _placed(span: Span, x: int, width: int) -> Span:
    return replace(span, x=min(x, WIDTH - 2), width=width)


def _all(facts: Facts) -> Iterator[Span]:
    run = facts.run
    yield Span(kind="queue", label=f"queue {run.queue}", start=run.created_at, **_until(run.started_at, facts))
    yield from (_attempt(attempt, facts) for attempt in facts.attempts)
    yield from (_step(step, facts) for step in facts.steps)
    yield from (_wait(wait, facts) for wait in facts.waits)
    yield from (span for restore in facts.restores for span in _restore(restore))
    if facts.checkpoint is not None and facts.checkpoint.made_at not in {each.made_at for each in facts.restores}:
        yield _checkpoint(facts.checkpoint)
    for child in facts.children:
        yield Span(
            kind="run",
            label=child.task,
            start=child.created_at,
            **_until(child.finished_at, facts),
            status=child.status,
            public_status=child.public_status,
            link=_address("run", child.id),
        )


def _address(page: str, of: UUID) -> str:
    """Of a page of the dashboard; none where a command asks and no dashboard is mounted."""
    try:
        return reverse(f"triggers:{page}", args=[of])
    except NoReverseMatch:
        return ""


def _until(end: datetime | None, facts: Facts) -> dict[str, Any]:
    """To its end, or to that of the run, or to now."""
    return {"end": end or facts.until, "is_open": end is None and facts.run.is_live}


def _attempt(attempt: Attempt, facts: Facts) -> Span:
    status = attempt.outcome or facts.run.status
    return Span(
        kind="attempt",
        label=f"attempt {attempt.number}",
        start=attempt.started_at,
        **_until(attempt.finished_at, facts),
        status=status,
        note=attempt.note or _message(attempt.error),
        **_said(facts, attempt.number, ""),
    )


def _said(facts: Facts, attempt: int, step: str) -> dict[str, Any]:
    said = facts.said.get((attempt, step), 0)
    return {"said": said, "lines": LogFilter(attempt=attempt, step=step).query()} if said else {}


def _message(error: object) -> str:
    return str(error.get("message", ""))[:300] if isinstance(error, dict) else ""


def _step(step: Step, facts: Facts) -> Span:
    status = "failed" if step.error is not None else "completed"
    notes = [
        "carried over from the run that this one replays" if step.attempt == 0 else "",
        "rolled back" if step.undone else "",
        "superseded: the next attempt called it again" if step.superseded else "",
    ]
    return Span(
        kind="step",
        label=step.key,
        start=step.started_at,
        end=step.finished_at,
        status=status,
        note=", ".join(filter(None, notes)) or "recorded",
        **_said(facts, step.attempt, step.key),
    )


def _wait(wait: Wait, facts: Facts) -> Span:
    return Span(
        kind="wait",
        label=f"wait for {wait.name}" if wait.name else f"wait {wait.key}",
        start=wait.opened_at,
        **_until(wait.resolved_at, facts),
        status=wait.status,
        note=_by(wait),
        link=_address("event", wait.event) if wait.event else "",
    )


def _by(wait: Wait) -> str:
    if wait.status == WaitStatus.PENDING:
        return f"until {wait.expires_at:%Y-%m-%d %H:%M:%S} UTC" if wait.expires_at else "without a deadline"
    if wait.event:
        return f"by event {short(wait.event)}"
    if wait.kind == WaitKind.TIMER and wait.status == WaitStatus.RESOLVED:
        return "by the clock"
    return f"by {wait.resolved_by}" if wait.resolved_by else ""


def _checkpoint(checkpoint: Checkpoint) -> Span:
    note = _image(checkpoint.image_size, checkpoint.size, checkpoint.host)
    label, end = f"checkpoint {checkpoint.sequence}", checkpoint.made_at
    return Span(kind="checkpoint", label=label, start=end - checkpoint.took, end=end, note=note)


def _image(memory: int, stored: int, host: str) -> str:
    return f"{size(memory)} of memory freed, {size(stored)} stored, by {host}"


def _restore(restore: Restore) -> Iterator[Span]:
    """The dump, how long the process was gone, and how the run came back."""
    yield Span(
        kind="checkpoint",
        label=f"checkpoint {restore.sequence}",
        start=restore.made_at - restore.dumped_in,
        end=restore.made_at,
        note=_image(restore.image_size, restore.size, restore.made_on),
    )
    gone = duration(restore.at - restore.took - restore.made_at)
    yield Span(
        kind="restore",
        label=f"restore {restore.sequence}",
        start=restore.at - restore.took,
        end=restore.at,
        status="failed" if restore.problem else "completed",
        note=f"entered again because {restore.problem}" if restore.problem else f"on {restore.host}, gone for {gone}",
    )
