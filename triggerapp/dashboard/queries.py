"""Every read that lists need. No request, no HTML; nothing here counts a large table or reads all of it.

Lists go by an index. Conditions that none answers are looked for among the newest runs only, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from triggerapp.dashboard.filters import RunFilter
from triggerapp.engine import environments, sql
from triggerapp.engine.selection import NEWEST, Cursor, Searches, Where, narrow, searches
from triggerapp.models import LIVE, Queue, Wait
from triggerapp.models.moves import public_status

PAGE = 50
SEARCHED = 20_000
"""So many runs are looked at for a condition that no index answers."""
MOST_NEW = 100

_COLUMNS = (
    "id, task_id, task, status, queue_id, attempt, worker, waiting_on, tags, root_id, parent_id, replay_of_id, "
    "version, is_eager, created_at, started_at, finished_at, due_at, expires_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as lists show it."""

    id: UUID
    task_id: str
    task: str
    status: str
    queue_id: int
    queue: str
    attempt: int
    worker: UUID | None
    waiting_on: UUID | None
    tags: list[str]
    root_id: UUID | None
    parent_id: UUID | None
    replay_of_id: UUID | None
    version: str | None
    is_eager: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    expires_at: datetime | None
    now: datetime
    wait: Wait | None = None

    @property
    def is_live(self) -> bool:
        """Whether anything is still going to happen."""
        return self.status in LIVE

    @property
    def public_status(self) -> str:
        """Its name in the API."""
        return public_status(self)

    @property
    def took(self) -> timedelta | None:
        """From its start to its end, or to now."""
        return None if self.started_at is None else (self.finished_at or self.now) - self.started_at

    @property
    def goes_on_since(self) -> datetime | None:
        """Its start, as long as it has no end."""
        return self.started_at if self.is_live else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """One page of a list of runs."""

    rows: list[RunRow]
    older: Cursor | None = None
    """Where the next page begins; None if there is none."""
    searched_up_to: datetime | None = None
    """Set if older runs were not looked at."""
    newest: Cursor | None = None


def runs(wanted: RunFilter, *, older_than: Cursor | None = None, limit: int = PAGE) -> RunPage:
    """A page of runs, newest first."""
    environment = environments.id_of(wanted.environment)
    if environment is None:
        return RunPage(rows=[])
    if wanted.text:
        return RunPage(rows=_by_id(environment, wanted, limit))
    by_index = searches(environment, wanted, older_than)
    rows = _rows(by_index, narrow(wanted), limit + 1)
    if len(rows) > limit:
        last = rows[limit - 1]
        return _page(rows[:limit], older=Cursor(last.created_at, last.id))
    end = _end_of_search(by_index) if wanted.is_narrow else None
    return _page(rows, older=end, searched_up_to=end and end.at)


def _page(rows: list[RunRow], **fields: Any) -> RunPage:
    newest = Cursor(rows[0].created_at, rows[0].id) if rows else None
    return RunPage(rows=rows, newest=newest, **fields)


def _rows(by_index: Searches, others: Where, limit: int) -> list[RunRow]:
    """The inner query is the window that is searched; without narrow conditions it is the page itself."""
    window = SEARCHED if others.conditions else limit
    return _read(by_index.newest(_COLUMNS, window), others, limit, values=by_index.values)


def _read(source: str, where: Where, limit: int, *, values: Sequence[Any] = ()) -> list[RunRow]:
    found = sql.rows(
        "SELECT r.*, q.name AS queue, now() AS now "
        f"FROM (SELECT * FROM {source} s WHERE {where} {NEWEST} {limit:d}) r "
        "JOIN triggerapp_queue q ON q.id = r.queue_id ORDER BY r.created_at DESC, r.id DESC",
        [*values, *where.values],
    )
    waits = Wait.objects.in_bulk([row["waiting_on"] for row in found if row["status"] == "waiting"])
    return [RunRow(**row, wait=waits.get(row["waiting_on"])) for row in found]


def _by_id(environment: int, wanted: RunFilter, limit: int) -> list[RunRow]:
    """Runs whose id begins with the text, or whose Celery task id it is, however old they are."""
    (where,) = searches(environment, RunFilter(text=wanted.text, period="all")).each
    source = f"(SELECT {_COLUMNS} FROM triggerapp_run WHERE {where} LIMIT {limit:d})"
    return _read(source, Where(), limit, values=where.values)


def _end_of_search(by_index: Searches) -> Cursor | None:
    """The last run of the window, if there may be others behind it."""
    row = sql.row(
        f"SELECT created_at, id FROM {by_index.newest(_COLUMNS, SEARCHED)} s {NEWEST} 1 OFFSET {SEARCHED - 1}",
        by_index.values,
    )
    return None if row is None else Cursor(row["created_at"], row["id"])


def by_ids(ids: Iterable[UUID]) -> list[RunRow]:
    """These runs."""
    where = Where()
    where.add("id = ANY(%s)", list(ids))
    return _read(f"(SELECT {_COLUMNS} FROM triggerapp_run WHERE {where})", Where(), MOST_NEW * 10, values=where.values)


def children(run_id: UUID, limit: int) -> list[RunRow]:
    """The runs that this one triggered, the first ones first."""
    where = Where()
    where.add("parent_id = %s AND parent_key IS NOT NULL", run_id)
    source = f"(SELECT {_COLUMNS} FROM triggerapp_run WHERE {where} ORDER BY id LIMIT {limit:d})"
    return _read(source, Where(), limit, values=where.values)[::-1]


def newer(wanted: RunFilter, than: Cursor | None) -> int:
    """How many runs came after that one, `MOST_NEW` at most."""
    environment = environments.id_of(wanted.environment)
    if environment is None or wanted.text:
        return 0
    by_index, others = searches(environment, wanted), narrow(wanted)
    if than is not None:
        by_index.add("(created_at, id) > (%s, %s)", than.at, than.id)
    row = sql.row(
        f"SELECT count(*) AS found FROM (SELECT 1 FROM {by_index.newest(_COLUMNS, SEARCHED)} s WHERE {others} "
        f"LIMIT {MOST_NEW:d}) n",
        [*by_index.values, *others.values],
    )
    return int(row["found"]) if row else 0


def queue_names(environment: str) -> list[str]:
    """The queues of an environment."""
    return list(
        Queue.objects.filter(environment__slug=environment).order_by("name").values_list("name", flat=True)[:200]
    )
