"""Queues and admission: the one place where capacity is judged.

Capacity is unlimited for now; a paused queue admits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction

from triggerapp.clock import now
from triggerapp.engine import audit, dispatch, environments, sql
from triggerapp.engine.idcache import IdCache
from triggerapp.errors import BadInput
from triggerapp.failpoints import point
from triggerapp.models import LIVE, Queue, Status
from triggerapp.models.moves import move_sql

ADMITS = "NOT EXISTS (SELECT 1 FROM triggerapp_queue q WHERE q.id = {run}.queue_id AND q.paused)"
"""SQL condition: the run's queue has room for it."""


def _make(environment: int, name: str) -> int:
    queue, _ = Queue.objects.get_or_create(environment_id=environment, name=name)
    return int(queue.pk)


identify = IdCache(_make)
"""The id of an environment's queue of this name, which is made on first use."""


def set_paused(environment: int, name: str, *, paused: bool, actor: str = "") -> None:
    """Pause or resume a queue; what has started goes on."""
    with transaction.atomic():
        changed = Queue.objects.filter(pk=identify(environment, name), paused=not paused).update(paused=paused)
        if changed:
            action = "queue.pause" if paused else "queue.resume"
            audit.record(environment, actor, action, name, before={"paused": not paused}, after={"paused": paused})
        if not paused:
            sql.after_commit(admit)
            sql.after_commit(sql.notify)


MOST_AT_ONCE = 100_000


def override(environment: int, name: str, limit: int, *, actor: str = "") -> None:
    """Set how many of a queue's runs may run at once, whatever the code says; stored, not enforced yet."""
    if type(limit) is not int or not 0 <= limit <= MOST_AT_ONCE:
        raise BadInput(f"concurrencyLimit={limit!r:.40} must be a whole number from 0 to {MOST_AT_ONCE:,}")
    _set_override(environment, name, limit, actor)


def reset_override(environment: int, name: str, *, actor: str = "") -> None:
    """Back to what the code says."""
    _set_override(environment, name, None, actor)


def _set_override(environment: int, name: str, limit: int | None, actor: str) -> None:
    with transaction.atomic():
        queue = Queue.objects.select_for_update().get(pk=identify(environment, name))
        if queue.override == limit:
            return
        before = queue.override
        queue.override, queue.overridden_by = limit, None if limit is None else actor
        queue.overridden_at = None if limit is None else now()
        queue.save(update_fields=["override", "overridden_by", "overridden_at"])
        action = "queue.reset" if limit is None else "queue.override"
        audit.record(environment, actor, action, name, before={"override": before}, after={"override": limit})


_LIVE = (
    "SELECT queue_id, '{status}' AS status, count(*) AS n, min(created_at) AS oldest FROM triggerapp_run "
    "WHERE environment_id = %(environment)s AND status = '{status}' GROUP BY queue_id"
)


def live(environment: int, statuses: Sequence[Status] = LIVE) -> list[sql.Row]:
    """How many runs of each queue have each of these live statuses, `n`, and since when the `oldest` one is there."""
    # Each status by itself: the index of a status serves no list of them, and all of the table would be read.
    statement = " UNION ALL ".join(_LIVE.format(status=status.value) for status in statuses)
    return sql.rows(statement, {"environment": environment})


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is in a queue."""

    running: int = 0
    queued: int = 0
    """Runs that have not started, or are to go on."""
    oldest: datetime | None = None
    """When the oldest of the queued ones came."""


def loads(environment: int) -> Mapping[int, Load]:
    """What is in each queue, by its id; a queue with nothing in it is left out."""
    found: dict[int, Load] = {}
    for row in live(environment, (Status.RUNNING, Status.QUEUED, Status.PENDING)):
        load = found.get(row["queue_id"], Load())
        if row["status"] == Status.RUNNING:
            load = replace(load, running=row["n"])
        else:
            oldest = min(filter(None, (load.oldest, row["oldest"])))
            load = replace(load, queued=load.queued + row["n"], oldest=oldest)
        found[row["queue_id"]] = load
    return found


_DUE = (
    "id IN (SELECT id FROM triggerapp_run r WHERE environment_id = %s AND status = 'pending' AND "
    f"(due_at IS NULL OR due_at <= now()) AND {ADMITS.format(run='r')} "
    "ORDER BY due_at NULLS FIRST LIMIT %s FOR UPDATE SKIP LOCKED)"
)
_ADMIT = sql.Hot(move_sql(Status.QUEUED, "due_at = NULL, sent_at = now(), sends = 1", _DUE, returning=dispatch.COLUMNS))


def admit(limit: int = 500) -> int:
    """Queue the pending runs that are due and that their queues have room for; how many."""
    point("tick.admit")
    admitted = sql.rows(_ADMIT, [environments.current(), limit])
    if admitted:
        point("admit.after_commit")
    dispatch.after_commit(admitted)
    return len(admitted)
