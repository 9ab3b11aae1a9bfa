"""Which runs a list shows: read from the URL, and written back to it, so that a list can be shared.

What cannot be, a status, batch, schedule or text, is kept, and finds nothing: without it the list would show all runs,
beside buttons for all that match. A period that is none of ours is the usual one. `mistakes` says so, and what else is
not read; who acts on all that match refuses them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from django.http import QueryDict

from triggerapp import conf, ids
from triggerapp.dashboard.asked import no_such, not_a_flag, not_an_environment, quoted, without_nul
from triggerapp.engine.selection import DEFAULT_PERIOD, PERIODS, Selection
from triggerapp.models import Status

_LONGEST = 255
_TEXTS = ("task", "queue", "tag", "version", "text")
_NAMES = ("status", *_TEXTS, "period", "environment", "root", "batch", "schedule")
"""What is read of a URL."""


def environment_in(data: QueryDict) -> str:
    """The environment that a URL names; without one, that of the settings."""
    return without_nul(data.get("environment", ""))[:_LONGEST] or conf.get().ENVIRONMENT


_NOBODY = str(UUID(int=0))


def _id(kind: str, text: str) -> str:
    """The UUID in an id; for what is none, the one that nothing has."""
    return text and str(ids.parsed(kind, text) or _NOBODY)


def _text(asked: str) -> str:
    """A text without the spaces around it; one that no run can have, blank or too long, stays one that none has."""
    return without_nul(asked.strip() or asked)[: _LONGEST + 1]


def _statuses(asked: list[str]) -> tuple[str, ...]:
    """Those that there are, and the first that there is not."""
    unknown = [without_nul(text)[:_LONGEST] for text in asked if text not in ("", *Status.values)]
    return (*(status for status in Status.values if status in asked), *unknown[:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter(Selection):
    """A selection as a URL says it."""

    @classmethod
    def parse(cls, data: QueryDict) -> Self:
        """The filter that a URL stands for."""
        texts: dict[str, Any] = {name: _text(data.get(name, "")) for name in _TEXTS}
        period = data.get("period", "")
        return cls(
            status=_statuses(data.getlist("status")),
            environment=environment_in(data),
            period=period if period in PERIODS else DEFAULT_PERIOD,
            root=data.get("root") == "1",
            batch=_id("batch", data.get("batch", "")),
            schedule=_id("sched", data.get("schedule", "")),
            **texts,
        )

    @property
    def no_status(self) -> str:
        """What is asked for as a status and is none."""
        return next((status for status in self.status if status not in Status.values), "")

    def query(self, **more: str) -> str:
        """As the query of a URL, without what is as it always is."""
        chosen = {name: value for name, value in asdict(self).items() if value and value != _DEFAULTS[name]}
        if self.environment == conf.get().ENVIRONMENT:
            chosen.pop("environment", None)
        if chosen.get("root"):
            chosen["root"] = "1"
        return urlencode({**chosen, **more}, doseq=True)


def mistakes(wanted: RunFilter, data: QueryDict, *, besides: Collection[str] = ()) -> dict[str, str]:
    """What the URL that a filter is of cannot mean, and what a list shows instead; `besides` is read by others."""
    return dict([*_wrong_names(data, besides), *_wrong_values(wanted, data), *_wrong_texts(data)])


def _wrong_names(data: QueryDict, besides: Collection[str]) -> Iterator[tuple[str, str]]:
    unknown = [name for name in data if name not in (*_NAMES, *besides)]
    for name in unknown[:1]:
        yield no_such("filter", name, _NAMES), "It was left out."
    for name in _NAMES:
        if name != "status" and len(data.getlist(name)) > 1:
            yield f"{name} can be asked for once only.", "What counts is the last."


def _wrong_values(wanted: RunFilter, data: QueryDict) -> Iterator[tuple[str, str]]:
    if wanted.no_status:
        yield no_such("status", wanted.no_status, Status.values), "So no run has it."
    period = data.get("period", "")
    if period and period not in PERIODS:
        yield no_such("period", period, PERIODS), f"Shown is {DEFAULT_PERIOD}."
    for kind in ("batch", "schedule"):
        if getattr(wanted, kind) == _NOBODY:
            yield f"{quoted(data.get(kind, ''))} is no id of a {kind}.", "So no run is of it."
    if wrong := not_a_flag("root", data.get("root", "")):
        yield wrong, "All are shown."
    if wrong := not_an_environment(data.get("environment", "")):
        yield wrong, "So nothing is shown."


def _wrong_texts(data: QueryDict) -> Iterator[tuple[str, str]]:
    for name in _TEXTS:
        asked = data.get(name, "")
        if asked and ("\0" in asked or not 0 < len(asked.strip()) <= _LONGEST):
            yield f"{name} is 1 to {_LONGEST} characters without NUL, not {quoted(asked)}.", "So no run has it."


_DEFAULTS = {each.name: each.default for each in fields(Selection)}
