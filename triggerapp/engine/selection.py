"""Which runs are meant: by conditions that all hold at once, newest first.

The dashboard's lists and bulk actions choose by the same words. Status and time go by an index; `narrow` conditions do
not, and whoever uses them bounds how far back is looked.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

PERIODS: Mapping[str, timedelta | None] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
DEFAULT_PERIOD = "7d"
NEWEST = "ORDER BY created_at DESC, id DESC LIMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All conditions hold at once; an empty one is none."""

    status: tuple[str, ...] = ()
    task: str = ""
    queue: str = ""
    tag: str = ""
    version: str = ""
    """That they were asked for."""
    environment: str = ""
    period: str = DEFAULT_PERIOD
    root: bool = False
    text: str = ""
    """The beginning of a run's id, or a whole Celery task id."""
    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    """One of each is enough."""
    after: str = ""
    before: str = ""
    """Moments, in ISO 8601."""
    batch: str = ""
    schedule: str = ""
    pending: str = ""
    """Of the pending runs only those that are "delayed", or those that wait for "room"."""
    nothing: bool = False
    """Something is asked for that no run has."""

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Self:
        """From what `dump` wrote."""
        fields: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in stored.items()}
        return cls(**fields)

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @property
    def is_narrow(self) -> bool:
        """Whether conditions are set that no index answers."""
        return bool(narrow(self).conditions)

    @property
    def since(self) -> timedelta | None:
        """How far back to look."""
        return PERIODS[self.period]


@dataclass(slots=True)
class Where:
    """Conditions and their values, in order."""

    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        """One more."""
        self.conditions.append(condition)
        self.values.extend(values)

    def __str__(self) -> str:
        return " AND ".join(self.conditions) or "true"


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


TAGGED = "NOT (tags = '{}'::varchar(128)[])"
"""SQL: the condition of the index of tags, in Django's words for it."""
_MEMBERS = {
    # As arrays: the planner then begins with the ids, and does not walk all runs, newest first, for a few old ones.
    "batch": "id = ANY(ARRAY(SELECT run FROM triggerapp_batchitem WHERE batch_id = %s::uuid))",
    "schedule": "id = ANY(ARRAY(SELECT run FROM triggerapp_firing WHERE schedule_id = %s::uuid AND run IS NOT NULL))",
}


def id_range(text: str) -> tuple[UUID, UUID] | None:
    """The ids that begin with `text`; None if no id can."""
    digits = text.removeprefix("run_").replace("-", "").lower()
    if not 4 <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


@dataclass(frozen=True, slots=True)
class Searches:
    """One search for each status: several at once have no index in common, and the whole table would be read."""

    each: Sequence[Where]

    def add(self, condition: object, *values: Any) -> None:
        """One more condition on what any of them finds."""
        for where in self.each:
            where.add(str(condition), *values)

    def newest(self, columns: str, limit: int) -> str:
        """SQL for the newest rows of each, by its own index; `values` are its parameters."""
        selects = (f"(SELECT {columns} FROM triggerapp_run WHERE {where} {NEWEST} {limit:d})" for where in self.each)
        return f"({' UNION ALL '.join(selects)})"

    @property
    def values(self) -> list[Any]:
        """In the order of `newest`."""
        return [value for where in self.each for value in where.values]


def searches(environment: int, wanted: Selection, older_than: Cursor | None = None) -> Searches:
    """What indexes find of a selection: all but its `narrow` conditions."""
    each = [replace(wanted, status=(status,)) for status in wanted.status] or [wanted]
    return Searches([_indexed(environment, one, older_than) for one in each])


def _indexed(environment: int, wanted: Selection, older_than: Cursor | None) -> Where:
    """The conditions that `run_newest`, the small index of the one status, or that of the ids answers."""
    where = Where()
    where.add("environment_id = %s", environment)
    if wanted.text:
        _add_id(where, wanted.text)
    for name, condition in _MEMBERS.items():
        if member_of := getattr(wanted, name):
            where.add(condition, member_of)
    for status in wanted.status:
        where.add("status = %s", status)
    if wanted.since is not None:
        where.add("created_at >= now() - %s::interval", wanted.since)
    for moment, operator in ((wanted.after, ">="), (wanted.before, "<=")):
        if moment:
            where.add(f"created_at {operator} %s::timestamptz", moment)
    if older_than is not None:
        where.add("(created_at, id) < (%s, %s)", older_than.at, older_than.id)
    return where


def narrow(wanted: Selection) -> Where:
    """The conditions that no index answers."""
    where = Where()
    if wanted.task:
        where.add("task = %s", wanted.task)
    if wanted.queue:
        where.add("queue_id IN (SELECT id FROM triggerapp_queue WHERE name = %s)", wanted.queue)
    if wanted.tag:
        where.add(f"tags @> ARRAY[%s]::varchar[] AND {TAGGED}", wanted.tag)
    if wanted.version:
        where.add("version = %s", wanted.version)
    if wanted.root:
        where.add("root_id IS NULL")
    for name, condition in _OTHERS.items():
        if found := getattr(wanted, name):
            where.add(condition, list(found) if isinstance(found, tuple) else found)
    if wanted.pending:
        where.add(_PENDING[wanted.pending])
    if wanted.nothing:
        where.add("false")
    return where


_PENDING = {
    "delayed": "(status <> 'pending' OR (started_at IS NULL AND due_at IS NOT NULL))",
    "room": "(status <> 'pending' OR started_at IS NOT NULL OR due_at IS NULL)",
}
_OTHERS = {
    "tasks": "task = ANY(%s)",
    "queues": "queue_id IN (SELECT id FROM triggerapp_queue WHERE name = ANY(%s))",
    "tags": "tags && %s::varchar[]",
    "versions": "version = ANY(%s)",
}


def _add_id(where: Where, text: str) -> None:
    ids = id_range(text)
    if ids is None:
        where.add("task_id = %s", text)
    else:
        where.add("(id BETWEEN %s AND %s OR task_id = %s)", *ids, text)
