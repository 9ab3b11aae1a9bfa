"""Notices: what a destination is to hear of, noted in the transaction in which it happened.

A run of our own delivers each: it is tried again as any run is, and is found among the runs if nobody took it.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from triggerapp import conf
from triggerapp.clock import now
from triggerapp.engine import calls, catalog, destinations, environments, limits, posting, signatures, sql, triggers
from triggerapp.engine.calls import Call
from triggerapp.errors import TriggerError
from triggerapp.failpoints import point
from triggerapp.models import Notice, Run

Json = dict[str, Any]
TASK = f"{catalog.OURS}deliver_notice"
_REASON_CHARACTERS = 512


class NotTaken(TriggerError):
    """The destination did not answer with a 2xx; it is asked again."""

    code = "not_taken"


_ANY_DUE = sql.Hot("SELECT 1 FROM triggerapp_notice WHERE environment_id = %s AND run IS NULL LIMIT 1")
_DUE = "SELECT id FROM triggerapp_notice WHERE environment_id = %s AND run IS NULL LIMIT %s FOR UPDATE SKIP LOCKED"


def start_due(limit: int = 100) -> int:
    """Start the runs that deliver what was noted; how many."""
    environment = environments.current()
    if sql.row(_ANY_DUE, [environment]) is None or catalog.durable_task(TASK) is None:
        return 0
    with transaction.atomic():
        due = sql.rows(_DUE, [environment, limit])
        for row in due:
            request = calls.request_of(Call(task=TASK, payload={"notice": str(row["id"])}))
            run = triggers.trigger(request).run_id
            sql.run("UPDATE triggerapp_notice SET run = %s WHERE id = %s", [run, row["id"]])
        point("notice.before_commit")
    point("notice.after_commit")
    return len(due)


def deliver(notice: UUID) -> int | None:
    """Post it; the status of the answer, or None if it is not wanted any more. Raises `NotTaken` and what
    `posting.post` raises.
    """
    found = Notice.objects.select_related("destination", "environment").filter(pk=notice).first()
    if found is None or found.delivered_at is not None or found.destination.disabled_at is not None:
        return None
    try:
        status = _post(found)
    except TriggerError as error:
        _note_try(found, status=None, error=str(error))
        raise
    taken = 200 <= status < 300
    _note_try(found, status=status, error="" if taken else f"it answered {status}")
    if not taken:
        raise NotTaken(f"{found.destination.name} answered {status}")
    Notice.objects.filter(pk=found.pk).update(delivered_at=now())
    return status


def _post(notice: Notice) -> int:
    body = json.dumps(_content(notice)).encode()
    secret = destinations.secret_of(notice.destination)
    headers = signatures.sign(secret, body, id=f"msg_{notice.pk}", at=now())
    return posting.post(notice.destination.url, body, headers)


def _note_try(notice: Notice, *, status: int | None, error: str) -> None:
    said = limits.storable(error)[:_REASON_CHARACTERS]
    Notice.objects.filter(pk=notice.pk).update(tries=F("tries") + 1, status=status, error=said)


def _content(notice: Notice) -> Json:
    """What is told: which run ended, how, and why. Neither its arguments nor its result."""
    run = Run.objects.filter(pk=notice.about).first()
    data: Json = {"id": f"run_{notice.about}", "environment": notice.environment.slug}
    if run is not None:
        data |= {"task": run.task, "attempt": run.attempt, "tags": run.tags, "createdAt": run.created_at.isoformat()}
        data["finishedAt"] = run.finished_at and run.finished_at.isoformat()
        data["error"] = run.error and {name: run.error.get(name) for name in ("type", "message")}
    return {"type": notice.kind, "timestamp": notice.created_at.isoformat(), "data": data}


_FORGET_ORPHANS = (
    "DELETE FROM triggerapp_notice n WHERE environment_id = %s "
    "AND NOT EXISTS (SELECT 1 FROM triggerapp_destination d WHERE d.id = n.destination_id)"
)


def prune() -> None:
    """Delete what is older than its retention, and what was noted while its destination was being removed."""
    sql.run(
        "DELETE FROM triggerapp_notice WHERE environment_id = %s AND created_at < now() - %s AND run IS NOT NULL",
        [environments.current(), conf.get().WEBHOOK_RETENTION],
    )
    sql.run(_FORGET_ORPHANS, [environments.current()])
