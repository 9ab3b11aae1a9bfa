"""Which runs a list shows: read from the URL, and written back to it, so that a list can be shared.

What is no choice of ours is left out, not refused: an old link still shows something.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from django.http import QueryDict

from triggerapp import conf
from triggerapp.models import Status

PERIODS: Mapping[str, timedelta | None] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
DEFAULT_PERIOD = "7d"
_LONGEST = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """All conditions hold at once; an empty one is none."""

    status: tuple[str, ...] = ()
    task: str = ""
    queue: str = ""
    tag: str = ""
    environment: str = ""
    period: str = DEFAULT_PERIOD
    root: bool = False
    text: str = ""
    """The beginning of a run's id, or a whole Celery task id."""

    @classmethod
    def parse(cls, data: QueryDict) -> Self:
        """The filter that a URL stands for."""
        texts = {name: data.get(name, "").replace("\0", "").strip()[:_LONGEST] for name in ("task", "queue", "tag")}
        period = data.get("period", "")
        return cls(
            status=tuple(status for status in Status.values if status in data.getlist("status")),
            environment=data.get("environment", "")[:32].replace("\0", "") or conf.get().ENVIRONMENT,
            period=period if period in PERIODS else DEFAULT_PERIOD,
            root=data.get("root") == "1",
            text=data.get("text", "").replace("\0", "").strip()[:_LONGEST],
            **texts,
        )

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Self:
        """From what `dump` wrote."""
        return cls(**{**stored, "status": tuple(stored["status"])})

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def query(self, **more: str) -> str:
        """As the query of a URL, without what is as it always is."""
        chosen = {name: value for name, value in asdict(self).items() if value and value != _DEFAULTS[name]}
        if self.environment == conf.get().ENVIRONMENT:
            chosen.pop("environment", None)
        if chosen.get("root"):
            chosen["root"] = "1"
        return urlencode({**chosen, **more}, doseq=True)

    def without(self, name: str) -> Self:
        """The same with one condition less."""
        return replace(self, **{name: _DEFAULTS[name]})  # type: ignore[arg-type]

    @property
    def is_narrow(self) -> bool:
        """Whether conditions are set that no index answers."""
        return bool(self.task or self.queue or self.tag or self.root)

    @property
    def since(self) -> timedelta | None:
        """How far back to look."""
        return PERIODS[self.period]


_DEFAULTS = {each.name: each.default for each in fields(RunFilter)}


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list that is ordered by time, newest first."""

    at: datetime
    id: UUID

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.at.isoformat()} {self.id}".encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The place that a URL names; None for the beginning, and for what is none."""
        try:
            at, _, id = base64.urlsafe_b64decode(f"{text or ''}===").decode().partition(" ")
            moment = datetime.fromisoformat(at)
            return cls(moment, UUID(id)) if moment.tzinfo else None
        except ValueError:
            return None


def id_range(text: str) -> tuple[UUID, UUID] | None:
    """The ids that begin with `text`; None if no id can."""
    digits = text.removeprefix("run_").replace("-", "").lower()
    if not 4 <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
