"""Which runs a list shows: read from the URL, and written back to it, so that a list can be shared.

A status, batch or schedule that cannot be is kept, and finds nothing: without it the list would show all runs, beside
buttons for all that match. A period that is none of ours is the usual one. `mistakes` says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from django.http import QueryDict

from triggerapp import conf
from triggerapp.dashboard.asked import no_such, not_a_flag, not_an_environment, quoted, uuid_or_none
from triggerapp.engine.selection import DEFAULT_PERIOD, PERIODS, Selection
from triggerapp.models import Status

_LONGEST = 255


def environment_in(data: QueryDict) -> str:
    """The environment that a URL names; without one, that of the settings."""
    return data.get("environment", "").replace("\0", "")[:32] or conf.get().ENVIRONMENT


_NOBODY = str(UUID(int=0))


def _id(text: str) -> str:
    """An id as it is; for what is none, the id that nothing has."""
    return text and str(uuid_or_none(text) or _NOBODY)


def _statuses(asked: list[str]) -> tuple[str, ...]:
    """Those that there are, and the first that there is not."""
    unknown = [
        text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_LONGEST] for text in asked if text not in ("", *Status.values)
    ]
    return (*(status for status in Status.values if status in asked), *unknown[:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter(Selection):
    """A selection as a URL says it."""

    @classmethod
    def parse(cls, data: QueryDict) -> Self:
        """The filter that a URL stands for."""
        texts: dict[str, Any] = {
            name: data.get(name, "").replace("\0", "").strip()[:_LONGEST]
            for name in ("task", "queue", "tag", "version")
        }
        period = data.get("period", "")
        return cls(
            status=_statuses(data.getlist("status")),
            environment=environment_in(data),
            period=period if period in PERIODS else DEFAULT_PERIOD,
            root=data.get("root") == "1",
            text=data.get("text", "").replace("\0", "").strip()[:_LONGEST],
            batch=_id(data.get("batch", "")),
            schedule=_id(data.get("schedule", "")),
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


def mistakes(wanted: RunFilter, data: QueryDict) -> list[str]:
    """What the URL that a filter is of cannot mean, and what is shown instead."""
    no_status, period = wanted.no_status, data.get("period", "")
    found = [f"{no_such('status', no_status, Status.values)} So no run has it."] if no_status else []
    if period and period not in PERIODS:
        found.append(f"{no_such('period', period, PERIODS)} Shown is {DEFAULT_PERIOD}.")
    for kind in ("batch", "schedule"):
        if getattr(wanted, kind) == _NOBODY:
            found.append(f"{quoted(data.get(kind, ''))} is no id of a {kind}, so no run is of it.")
    return [*found, *not_a_flag("root", data.get("root", "")), *not_an_environment(data.get("environment", ""))]


_DEFAULTS = {each.name: each.default for each in fields(Selection)}
