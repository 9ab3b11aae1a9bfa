"""Notices: what a destination is to hear of, noted in the transaction in which it happened.

A run of our own delivers each: it is tried again as any run is, and is found among the runs if nobody took it.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from triggerapp import conf
from triggerapp.clock import now
from triggerapp.engine import (
    audit,
    calls,
    catalog,
    destinations,
    environments,
    limits,
    posting,
    signatures,
    sql,
    triggers,
    verbs,
)
from triggerapp.engine.calls import Call
from triggerapp.errors import BadInput, NotFound, TriggerError
from triggerapp.failpoints import point
from triggerapp.models import Destination, Notice, Run

log = logging.getLogger(__name__)

Json = dict[str, Any]
TASK = f"{catalog.OURS}deliver_notice"
TEST = "test"
"""The kind of a notice that is about nothing, sent by hand."""
_NOTHING = UUID(int=0)
_REASON_CHARACTERS = 512


class NotTaken(TriggerError):
    """The destination did not answer with a 2xx; it is asked again."""

    code = "not_taken"


STARTS = 100
"""So often it is tried to start the run that delivers a notice, once a minute."""
_IS_DUE = (
    f"environment_id = %s AND run IS NULL AND tries < {STARTS} AND created_at <= now() - tries * interval '1 minute'"
)
_ANY_DUE = sql.Hot(f"SELECT 1 FROM triggerapp_notice WHERE {_IS_DUE} LIMIT 1")
_DUE = f"SELECT id FROM triggerapp_notice WHERE {_IS_DUE} LIMIT %s FOR UPDATE SKIP LOCKED"


def start_due(limit: int = 100) -> int:
    """Start the runs that deliver what was noted; how many."""
    environment = environments.current()
    if sql.row(_ANY_DUE, [environment]) is None or catalog.durable_task(TASK) is None:
        return 0
    with transaction.atomic():
        due = sql.rows(_DUE, [environment, limit])
        for row in due:
            _start(row["id"])
        point("notice.before_commit")
    point("notice.after_commit")
    return len(due)


def _start(notice: UUID) -> None:
    """Each in a savepoint of its own: one that cannot be started holds up no other."""
    try:
        with transaction.atomic():
            request = calls.request_of(Call(task=TASK, payload={"notice": str(notice)}))
            run = triggers.trigger(request).run_id
            sql.run("UPDATE triggerapp_notice SET run = %s WHERE id = %s", [run, notice])
    except sql.UNANSWERED:
        raise
    except Exception as error:  # of the project's own routers and signals
        log.exception("notice %s could not be sent on its way", notice)
        _note_try(notice, status=None, error=f"{type(error).__name__}: {error}")


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
        _note_try(found.pk, status=None, error=str(error))
        raise
    taken = 200 <= status < 300
    _note_try(found.pk, status=status, error="" if taken else f"it answered {status}")
    if not taken:
        raise NotTaken(f"{found.destination.name} answered {status}")
    Notice.objects.filter(pk=found.pk).update(delivered_at=now())
    return status


def _post(notice: Notice) -> int:
    body = json.dumps(_content(notice)).encode()
    secret = destinations.secret_of(notice.destination)
    headers = signatures.sign(secret, body, id=f"msg_{notice.pk}", at=now())
    return posting.post(notice.destination.url, body, headers)


def _note_try(notice: UUID, *, status: int | None, error: str) -> None:
    said = limits.storable(error)[:_REASON_CHARACTERS]
    Notice.objects.filter(pk=notice).update(tries=F("tries") + 1, status=status, error=said)


def _content(notice: Notice) -> Json:
    """What is told: which run ended, how, and why. Neither its arguments nor its result."""
    data = {"destination": notice.destination.name} if notice.kind == TEST else _about(notice)
    data["environment"] = notice.environment.slug
    return {"type": notice.kind, "timestamp": notice.created_at.isoformat(), "data": data}


def _about(notice: Notice) -> Json:
    run = Run.objects.filter(pk=notice.about).first()
    data: Json = {"id": f"run_{notice.about}"}
    if run is not None:
        data |= {"task": run.task, "attempt": run.attempt, "tags": run.tags, "createdAt": run.created_at.isoformat()}
        data["finishedAt"] = run.finished_at and run.finished_at.isoformat()
        data["error"] = run.error and {name: run.error.get(name) for name in ("type", "message")}
    return data


# --- by hand --------------------------------------------------------------------------------------


def send_test(destination: Destination, *, actor: str = "") -> Notice:
    """A notice about nothing, delivered as any other is. Raises `BadInput` if the destination is disabled."""
    _check_enabled(destination)
    owner = destination.environment_id
    with transaction.atomic():
        notice = Notice.objects.create(environment_id=owner, destination=destination, kind=TEST, about=_NOTHING)
        audit.record(owner, actor, "destination.test", destination.name)
        sql.after_commit(sql.notify)
    return notice


def retry(notice: UUID, *, actor: str = "") -> Notice:
    """Deliver it by another run, at once, in place of tries that were still to come. Raises `NotFound`, `BadInput`."""
    with transaction.atomic():
        rows = Notice.objects.select_for_update(of=("self",)).select_related("destination")
        found = rows.filter(pk=notice).first()
        if found is None:
            raise NotFound(f"There is no notice {notice}. They are kept for {conf.get().WEBHOOK_RETENTION.days} days.")
        if found.delivered_at is not None:
            raise BadInput(f"{found.destination.name} took this notice already, with {found.status}")
        _check_enabled(found.destination)
        if found.run is not None:
            verbs.cancel(found.run, actor=actor)
        found.run, found.tries = None, 0
        found.save(update_fields=["run", "tries"])
        audit.record(found.environment_id, actor, "notice.retry", notice)
        sql.after_commit(sql.notify)
    return found


def _check_enabled(destination: Destination) -> None:
    if destination.disabled_at is not None:
        raise BadInput(f"{destination.name} is disabled and hears nothing: enable it first")


# --- retention ------------------------------------------------------------------------------------

_OLD = (
    "environment_id = %s AND (created_at < now() - %s AND (run IS NOT NULL OR tries > 0) "
    "OR NOT EXISTS (SELECT 1 FROM triggerapp_destination d WHERE d.id = destination_id))"
)


def prune(limit: int = 1000) -> int:
    """Delete what is older than its retention, and what was noted while its destination was being removed; how many."""
    params = [environments.current(), conf.get().WEBHOOK_RETENTION]
    return sql.delete_some("triggerapp_notice", _OLD, params, limit=limit)
