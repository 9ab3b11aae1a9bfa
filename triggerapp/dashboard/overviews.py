"""Reads for the pages beside the runs, from waits to the audit log. Each goes by an index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from triggerapp import conf, ids, levels
from triggerapp.dashboard import queries
from triggerapp.dashboard.queries import RunRow
from triggerapp.engine import notices as engine_notices
from triggerapp.engine import queues as engine_queues
from triggerapp.engine import sql
from triggerapp.models import AuditEntry, Deployment, Event, Notice, Queue, Start, Wait

PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, and where the next ones begin."""

    rows: Sequence[Any]
    older: str = ""
    searched_up_to: datetime | None = None
    """Set if older rows were not looked at."""


_WAITING = """
SELECT r.id AS run, r.task, w.id, w.kind, w.name, w.key, w.filter, w.expires_at, w.opened_at, w.remaining
FROM (SELECT id, task, waiting_on FROM triggerapp_run WHERE status = 'waiting' AND waiting_on < %s
        AND environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s)
      ORDER BY waiting_on DESC LIMIT 5000) r
JOIN triggerapp_wait w ON w.id = r.waiting_on WHERE (%s = '' OR w.kind = %s) AND (%s = '' OR w.name = %s)
ORDER BY r.waiting_on DESC LIMIT %s
"""
_LAST = UUID(int=(1 << 128) - 1)


def waits(environment: str, *, kind: str = "", name: str = "", older: UUID | None = None) -> Page:
    """What the runs of an environment wait for, the newest wait first."""
    before = older or _LAST
    rows = sql.rows(_WAITING, [before, environment, kind, kind, name, name, PAGE + 1])
    for row in rows:
        row["filter"] = json.loads(row["filter"]) if isinstance(row["filter"], str) else row["filter"]
    more = len(rows) > PAGE
    return Page(rows=rows[:PAGE], older=str(rows[PAGE - 1]["id"]) if more else "")


SEARCHED = 5000
"""So many events are looked at for those that reached nobody."""
_WINDOW = """
SELECT * FROM triggerapp_event
WHERE environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s) AND {newest} LIMIT %s
"""
_EVENTS = """
SELECT *, octet_length(payload::text) AS size FROM (
  SELECT e.id, name, e.created_at, source_run, external_id, payload, status, deliver_at,
    (SELECT count(*) FROM (SELECT 1 FROM triggerapp_wait WHERE event = e.id LIMIT 100) w) AS waits,
    (SELECT count(*) FROM triggerapp_start WHERE event_id = e.id) AS starts
  FROM ({window}) e
) f WHERE NOT %s OR (waits + starts = 0 AND status = 'delivered') ORDER BY {order} LIMIT %s
"""
_END_OF_WINDOW = "SELECT id, created_at FROM ({window}) e ORDER BY {order} OFFSET %s LIMIT 1"
_BY_ID = ("id < %s", "id DESC")
_BY_NAME = ("name = %s AND (created_at, id) < (COALESCE(%s::timestamptz, 'infinity'), %s)", "created_at DESC, id DESC")


def events(environment: str, *, name: str = "", unmatched: bool = False, older: UUID | None = None) -> Page:
    """Events, the newest first; by their ids, which are times, or by the index of their name."""
    before = older or _LAST
    values: list[Any] = [environment, before]
    those, order = _BY_ID
    if name:
        at = Event.objects.filter(pk=before).values_list("created_at", flat=True).first()
        (those, order), values = _BY_NAME, [environment, name, at, before]
    window = _WINDOW.format(newest=f"{those} ORDER BY {order}")
    values.append(SEARCHED if unmatched else PAGE + 1)
    rows = sql.rows(_EVENTS.format(window=window, order=order), [*values, unmatched, PAGE + 1])
    if len(rows) > PAGE:
        return Page(rows=rows[:PAGE], older=str(rows[PAGE - 1]["id"]))
    end = sql.row(_END_OF_WINDOW.format(window=window, order=order), [*values, SEARCHED - 1]) if unmatched else None
    if end is None:
        return Page(rows=rows)
    return Page(rows=rows, older=str(end["id"]), searched_up_to=end["created_at"])


def event(event_id: UUID) -> tuple[Event, list[tuple[Wait, RunRow | None]], list[tuple[Start, RunRow | None]]]:
    """An event with the waits that it resolved and the tasks that it starts, and their runs."""
    found = Event.objects.select_related("environment").filter(pk=event_id).first()
    if found is None:
        raise ids.missing("event", event_id, f"; events are kept for {conf.get().EVENT_RETENTION.days} days")
    reached = list(Wait.objects.filter(event=event_id).defer("value").order_by("id")[: PAGE * 2])
    starts = list(Start.objects.filter(event=event_id).order_by("task")[: PAGE * 2])
    run_ids = [wait.run_id for wait in reached if wait.run_id] + [start.run for start in starts if start.run]
    runs = {run.id: run for run in queries.by_ids(run_ids)}
    return (
        found,
        [(wait, runs.get(wait.run_id)) for wait in reached if wait.run_id],
        [(start, runs.get(start.run) if start.run else None) for start in starts],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A queue, and what is in it."""

    id: int
    name: str
    paused: bool
    running: int
    queued: int
    oldest: datetime | None


def queues(environment: str) -> list[QueueRow]:
    """Queues with how many runs are running and how many are not yet."""
    found = list(Queue.objects.filter(environment__slug=environment).order_by("name")[:500])
    loads = engine_queues.loads(found[0].environment_id) if found else {}
    return [
        QueueRow(id=queue.pk, name=queue.name, paused=queue.paused, **asdict(loads.get(queue.pk, engine_queues.Load())))
        for queue in found
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker and when it was last heard of."""

    id: UUID
    hostname: str
    pid: int
    started_at: datetime
    expires_at: datetime
    waiting: str
    running: int
    now: datetime

    @property
    def silent_for(self) -> timedelta:
        """The age of its last heartbeat."""
        return max(timedelta(), self.now - (self.expires_at - conf.get().LEASE))

    @property
    def is_alive(self) -> bool:
        """Whether its lease holds."""
        return self.expires_at > self.now


_WORKERS = """
SELECT w.id, w.hostname, w.pid, w.started_at, w.expires_at, w.waiting, now() AS now,
  (SELECT count(*) FROM triggerapp_run r WHERE r.status = 'running' AND r.worker = w.id) AS running
FROM triggerapp_worker w ORDER BY w.expires_at DESC LIMIT 200
"""


def workers() -> list[WorkerRow]:
    """The workers that were heard of last."""
    return [WorkerRow(**row) for row in sql.rows(_WORKERS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An API key or a personal token, without its secret."""

    prefix: str
    name: str
    environment: str
    owner: str
    """The name of the user whose personal token it is."""
    scopes: Sequence[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    state: str
    """`valid`, `expired` or `revoked`."""


_KEYS = """
SELECT k.prefix, k.name, COALESCE(e.slug, '') AS environment, k.owner, k.scopes, k.created_by, k.created_at,
  k.expires_at, k.last_used_at,
  CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.expires_at <= now() THEN 'expired' ELSE 'valid' END AS state
FROM triggerapp_apikey k LEFT JOIN triggerapp_environment e ON e.id = k.environment_id
WHERE %s::text IS NULL OR k.owner = %s
ORDER BY k.revoked_at IS NOT NULL OR COALESCE(k.expires_at <= now(), false), k.owner <> '', k.id DESC LIMIT 500
"""


def keys(*, owner: str | None = None) -> list[KeyRow]:
    """API keys and personal tokens, those that are valid first: all, or those of one user."""
    rows = sql.rows(_KEYS, [owner, owner])
    names = levels.usernames(row["owner"] for row in rows)
    return [KeyRow(**{**row, "owner": names.get(row["owner"], row["owner"])}) for row in rows]


_SCHEDULES = """
SELECT s.id, s.task, s.cron, s.timezone, s.active, s.next_at, s.external_id, f.due_at, f.run, f.failure
FROM triggerapp_schedule s LEFT JOIN LATERAL (SELECT due_at, run, failure FROM triggerapp_firing
  WHERE schedule_id = s.id ORDER BY due_at DESC LIMIT 1) f ON true
WHERE s.environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s) ORDER BY s.task, s.id LIMIT 500
"""


def schedules(environment: str) -> list[sql.Row]:
    """Schedules with what they started last."""
    return sql.rows(_SCHEDULES, [environment])


def deployments(environment: str) -> list[Deployment]:
    """The newest versions."""
    rows = Deployment.objects.filter(environment__slug=environment)
    return list(rows.order_by("-created_at", "-id")[:200])


_DELIVERIES = """
SELECT id, verdict, code, reason, type, external_id, event, size, remote, received_at FROM triggerapp_delivery
WHERE endpoint_id = %s AND id < %s {verdict} ORDER BY id DESC LIMIT %s
"""


def deliveries(endpoint: int, *, verdict: str = "", older: UUID | None = None) -> Page:
    """What was posted to an endpoint, the newest first."""
    statement = _DELIVERIES.format(verdict="AND verdict = %s" if verdict else "")
    before = older or _LAST
    rows = sql.rows(statement, [endpoint, before, *([verdict] if verdict else []), PAGE + 1])
    return Page(rows=rows[:PAGE], older=str(rows[PAGE - 1]["id"]) if len(rows) > PAGE else "")


_NOTICES = f"""
SELECT n.id, n.kind, n.about, n.run, n.status, n.error, n.tries, n.created_at, n.delivered_at, r.due_at,
  CASE WHEN n.delivered_at IS NOT NULL THEN 'delivered'
       WHEN n.run IS NULL AND n.tries < {engine_notices.STARTS} THEN 'pending'
       WHEN r.id IS NOT NULL AND r.finished_at IS NULL THEN 'pending' ELSE 'failed' END AS state
FROM (SELECT * FROM triggerapp_notice
      WHERE destination_id = %s AND (created_at, id) < (COALESCE(%s::timestamptz, 'infinity'), %s)
      ORDER BY created_at DESC, id DESC LIMIT %s) n
LEFT JOIN triggerapp_run r ON r.id = n.run ORDER BY n.created_at DESC, n.id DESC
"""


def notices(destination: int, *, older: UUID | None = None) -> Page:
    """What a destination was told and is to be told, the newest first."""
    last = older or _LAST
    before = Notice.objects.filter(pk=last).values_list("created_at", flat=True).first()
    rows = sql.rows(_NOTICES, [destination, before, last, PAGE + 1])
    return Page(rows=rows[:PAGE], older=str(rows[PAGE - 1]["id"]) if len(rows) > PAGE else "")


def audit(*, target: str = "", older: int | None = None) -> Page:
    """Who did what, the newest first."""
    found = AuditEntry.objects.order_by("-id")
    if target:
        found = AuditEntry.objects.filter(target=target).order_by("-created_at", "-id")
    if older is not None:
        found = found.filter(pk__lt=older)
    rows = list(found[: PAGE + 1])
    return Page(rows=rows[:PAGE], older=str(rows[PAGE - 1].pk) if len(rows) > PAGE else "")
