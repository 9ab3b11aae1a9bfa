"""Bulk actions: the ticks do them, one run at a time, each with its progress in one commit.

So a worker that dies in the middle leaves nothing done twice: another one's tick goes on where it stood.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models.functions import Now

from triggerapp import ids
from triggerapp.engine import audit, environments, sql, verbs
from triggerapp.engine.selection import NEWEST, Cursor, Selection, narrow, searches
from triggerapp.errors import BadInput, TriggerError
from triggerapp.models import LIVE, BulkAction, BulkStatus, BulkVerb, Run, Status

log = logging.getLogger(__name__)

MOST_SELECTED = 1000
MOST_COUNTED = 10_000
_CHOSEN_BY = "id, task, queue_id, tags, root_id, version, status, started_at, due_at"
"""What `narrow` conditions are about."""
_SPENT = 0.25
"""Seconds that one tick gives to bulk actions."""
_SENSIBLE = {
    BulkVerb.CANCEL: tuple(status.value for status in LIVE),
    BulkVerb.RETRY: (Status.FAILED.value, Status.CRASHED.value, Status.TIMED_OUT.value),
}
"""Where no status is asked for, the verb is tried on these."""


def start(
    verb: BulkVerb,
    *,
    environment: int,
    actor: str,
    selected: Sequence[UUID] = (),
    matching: Selection | None = None,
    name: str = "",
) -> BulkAction:
    """Have it done to the selected runs, or to all that match now. Raises `BadInput` without any."""
    if matching is None and not 0 < len(selected) <= MOST_SELECTED:
        raise BadInput(f"select 1 to {MOST_SELECTED:,} runs, or all that match")
    if matching is not None and not matching.status and verb in _SENSIBLE:
        matching = replace(matching, status=_SENSIBLE[verb])
    total = len(selected) if matching is None else _count(environment, matching)
    with transaction.atomic():
        bulk = BulkAction.objects.create(
            environment_id=environment,
            verb=verb,
            name=name,
            actor=actor,
            selected=[] if matching else list(selected),
            filter=matching and matching.dump(),
            total=total,
        )
        asked = {"verb": verb, "filter": bulk.filter, "total": total}
        audit.record(environment, actor, "bulk.start", bulk.pk, after=asked)
        sql.after_commit(sql.notify)
    return bulk


def _count(environment: int, matching: Selection) -> int | None:
    """How many there are; None if more would have to be looked at than somebody waits for."""
    found, others = searches(environment, matching), narrow(matching)
    row = sql.row(
        f"SELECT count(*) AS looked_at, count(*) FILTER (WHERE {others}) AS n "
        f"FROM {found.newest(_CHOSEN_BY, MOST_COUNTED + 1)} s",
        [*others.values, *found.values],
    )
    return None if row is None or row["looked_at"] > MOST_COUNTED else int(row["n"])


def matching(environment: int, wanted: Selection) -> list[UUID]:
    """The runs that match now, the newest first. Raises `BadInput` if they are too many to be held at once."""
    found, others, most = searches(environment, wanted), narrow(wanted), MOST_COUNTED + 1
    found.add(others, *others.values)
    rows = sql.rows(f"SELECT id FROM {found.newest('id, created_at', most)} s {NEWEST} {most}", found.values)
    if len(rows) > MOST_COUNTED:
        raise BadInput(f"more than {MOST_COUNTED:,} runs match: narrow the filter, or use the dashboard's bulk action")
    return [row["id"] for row in rows]


def abort(bulk: UUID, *, actor: str) -> bool:
    """Do no more of it; False if it was over."""
    with transaction.atomic():
        row = sql.row(
            "UPDATE triggerapp_bulkaction SET status = 'aborted', finished_at = now() "
            "WHERE id = %s AND status = 'running' RETURNING environment_id",
            [bulk],
        )
        if row is not None:
            audit.record(row["environment_id"], actor, "bulk.abort", bulk)
    return row is not None


def advance(seconds: float = _SPENT) -> bool:
    """Go on with this environment's oldest bulk action for a while; whether there is more to do."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not _advance_by_one():
            return False
    return True


def _advance_by_one() -> bool:
    with transaction.atomic():
        running = BulkAction.objects.filter(environment_id=environments.current(), status=BulkStatus.RUNNING)
        bulk = running.select_for_update(skip_locked=True).order_by("id").first()
        if bulk is None:
            return False
        run = _next(bulk)
        if run is None:
            BulkAction.objects.filter(pk=bulk.pk).update(status=BulkStatus.COMPLETED, finished_at=Now(), selected=[])
        else:
            _do(bulk, run)
    return True


def _next(bulk: BulkAction) -> UUID | None:
    """The next run, noted as taken on the row; None at the end."""
    if bulk.filter is None:
        return bulk.selected.pop(0) if bulk.selected else None
    wanted = Selection.load(bulk.filter)
    found, others = searches(bulk.environment_id, wanted, Cursor.parse(bulk.cursor)), narrow(wanted)
    found.add("created_at <= %s", bulk.created_at)  # else replays would be replayed
    found.add(others, *others.values)
    row = sql.row(f"SELECT id, created_at FROM {found.newest('id, created_at', 1)} s {NEWEST} 1", found.values)
    if row is None:
        return None
    bulk.cursor = str(Cursor(row["created_at"], row["id"]))
    return UUID(str(row["id"]))


def _do(bulk: BulkAction, run: UUID) -> None:
    try:
        with transaction.atomic():
            done = _apply(bulk, run)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # one run that nobody can decode any more must not keep all others waiting
        if not isinstance(error, TriggerError):
            log.exception("bulk action %s: run %s", bulk.pk, run)
        bulk.last_refusal, done = str(error), False
    bulk.done += done
    bulk.refused += not done
    fields = ("done", "refused", "last_refusal", "cursor", "selected")
    BulkAction.objects.filter(pk=bulk.pk).update(**{name: getattr(bulk, name) for name in fields})


def _apply(bulk: BulkAction, run: UUID) -> bool:
    actor: dict[str, Any] = {"actor": f"{bulk.actor}, bulk {bulk.pk}"}
    if bulk.filter is None and not Run.objects.filter(pk=run, environment_id=bulk.environment_id).exists():
        # Whoever asked knew its id, and no more.
        raise ids.missing("run", run, " in this environment")
    match bulk.verb:
        case BulkVerb.CANCEL:
            return verbs.cancel(run, **actor)
        case BulkVerb.RETRY:
            verbs.retry(run, **actor)
        case _:
            verbs.replay(run, environment=bulk.environment_id, **actor)
    return True
