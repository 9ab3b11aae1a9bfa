"""A run as spans: the run itself, its attempts, and their steps and waits, each with a beginning and an end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from triggerapp import ids
from triggerapp.api import parameters, rendering
from triggerapp.api.http import without_none
from triggerapp.api.parameters import Params
from triggerapp.clock import now
from triggerapp.models import Attempt, Run, Step, Wait, WaitStatus

Fields = dict[str, Any]

_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took time within a run."""

    id: str
    kind: str
    run: str
    message: str
    start: datetime
    end: datetime | None
    parent: str | None = None
    attempt: int | None = None
    is_error: bool = False
    is_canceled: bool = False
    properties: Fields = field(default_factory=dict)

    def flat(self) -> Fields:
        """By itself, as `events` lists it."""
        return {"id": self.id, "kind": self.kind, "runId": self.run, **self._shown(), "duration": self._took()}

    def lean(self) -> Fields:
        """By itself, as a page of a trace has it: what it is about is asked for by its id."""
        shown = {name: value for name, value in self.flat().items() if name not in ("kind", "properties")}
        return {**shown, **without_none({"attemptNumber": self.attempt})}

    def detail(self) -> Fields:
        """By itself, with all that is known."""
        shown = {**self._shown(), "parentId": self.parent}
        return {"spanId": self.id, "runId": self.run, **shown, "durationMs": self._took() / 1_000_000, "events": []}

    def nested(self, children: Sequence[Fields]) -> Fields:
        """With what it contains."""
        shown = self._shown()
        parent = {"parentId": self.parent} if self.parent else {}
        data = {name: value for name, value in shown.items() if name != "parentId"}
        return {
            "id": self.id,
            **parent,
            "runId": self.run,
            "data": {**data, "duration": self._took(), "events": []},
            "children": list(children),
        }

    def _shown(self) -> Fields:
        return without_none(
            {
                "parentId": self.parent,
                "message": self.message,
                "startTime": rendering.when(self.start),
                "isError": self.is_error,
                "isPartial": self.end is None,
                "isCancelled": self.is_canceled,
                "level": "TRACE",
                "properties": self.properties or None,
            }
        )

    def _took(self) -> int:
        """Nanoseconds."""
        return max(0, ((self.end or now()) - self.start) // timedelta(microseconds=1)) * 1000


def of(run: Run) -> list[Span]:
    """All spans of a run; the run comes first."""
    public = ids.show("run", run.id)
    status = run.public_status
    root = Span(
        id=f"run_{run.id.hex}",
        kind="run",
        run=public,
        message=run.task,
        start=run.created_at,
        end=run.finished_at,
        is_error=status in rendering.FAILED,
        is_canceled=status == "CANCELED",
        properties={"status": status},
    )
    attempts = list(Attempt.objects.filter(run_id=run.id).order_by("number"))
    inner = [_attempt(attempt, root) for attempt in attempts]
    by_number = {attempt.number: span for attempt, span in zip(attempts, inner, strict=True)}
    steps = Step.objects.filter(run_id=run.id).defer("value")
    waits = Wait.objects.filter(run_id=run.id).defer("value", "filter")
    parts = [_step(step, by_number.get(step.attempt, root)) for step in steps]
    parts += [_wait(wait, _within(wait, attempts, by_number, root)) for wait in waits]
    return [root, *sorted([*inner, *parts], key=lambda span: span.start)]


def page(found: Sequence[Span], params: Params) -> Fields:
    """Some of the spans, in order, and where the next ones begin."""
    start = parameters.whole_number(params, "page[after]", 0, least=0)
    count = parameters.whole_number(params, "page[size]", _MOST, most=_MOST)
    shown, rest = found[start : start + count], len(found) > start + count
    failures = [
        {"spanId": span.id, "attemptNumber": span.attempt, "runId": span.run}
        for span in shown
        if span.kind == "attempt" and span.is_error
    ]
    pagination = {"next": str(start + count)} if rest else {}
    return {"data": [span.lean() for span in shown], "attemptFailures": failures, "pagination": pagination}


def _attempt(attempt: Attempt, root: Span) -> Span:
    return Span(
        id=f"attempt_{attempt.number}",
        kind="attempt",
        run=root.run,
        message=f"Attempt {attempt.number}",
        start=attempt.started_at,
        end=attempt.finished_at,
        parent=root.id,
        attempt=attempt.number,
        is_error=bool(attempt.error),
        is_canceled=attempt.outcome == "canceled",
        properties=without_none(
            {
                "outcome": attempt.outcome or None,
                "error": rendering.serialized(attempt.error) if attempt.error else None,
            }
        ),
    )


def _step(step: Step, parent: Span) -> Span:
    return Span(
        id=f"step_{step.pk}",
        kind="step",
        run=parent.run,
        message=step.key,
        start=step.started_at,
        end=step.finished_at,
        parent=parent.id,
        is_error=step.error is not None,
        properties={"undone": step.undone, "superseded": step.superseded},
    )


def _wait(wait: Wait, parent: Span) -> Span:
    return Span(
        id=f"wait_{wait.pk.hex}",
        kind="wait",
        run=parent.run,
        message=wait.key or wait.kind,
        start=wait.opened_at,
        end=wait.resolved_at,
        parent=parent.id,
        is_canceled=wait.status == WaitStatus.CANCELED,
        properties=without_none(
            {"kind": wait.kind, "status": wait.status, "expiresAt": rendering.when(wait.expires_at)}
        ),
    )


def _within(wait: Wait, attempts: Sequence[Attempt], spans: dict[int, Span], root: Span) -> Span:
    """The attempt that the wait was opened in; a token may be older than all of them."""
    before = [attempt.number for attempt in attempts if attempt.started_at <= wait.opened_at]
    return spans[before[-1]] if before else root


def tree(found: Sequence[Span]) -> Fields:
    """The first span, with all others below it."""
    below: dict[str | None, list[Span]] = defaultdict(list)
    for each in found:
        below[each.parent].append(each)

    def grown(span: Span) -> Fields:
        return span.nested([grown(each) for each in below[span.id]])

    return grown(found[0])
