"""Events: accepted once, delivered to every wait that matches, whether it was opened before or after.

Emitting and opening a wait on one event name take one lock, so neither can miss the other. Waits
are found by signature: for each shape of filter in use on the name, what this payload hashes to.
An event that is to be delivered later is nobody's until then; a tick delivers it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import DataError, OperationalError, transaction

from triggerapp import conf, ids
from triggerapp.engine import audit, environments, filters, limits, sql, subscriptions, wakes
from triggerapp.errors import BadInput, DatabaseUnavailable, IllegalMove
from triggerapp.failpoints import point
from triggerapp.models import Event, EventStatus
from triggerapp.models.runs import new_id

log = logging.getLogger(__name__)

Json = Any
Deadline = timedelta | datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """An accepted event; `cached` if its id was seen before."""

    id: UUID
    cached: bool


def lock(environment: int, name: str) -> None:
    """The one lock of an event name (rule 6)."""
    sql.lock(sql.Lock(environment, name))


def emit(
    name: str,
    payload: str,
    *,
    environment: int | None = None,
    external_id: str | None = None,
    run_id: UUID | None = None,
    deliver: Deadline = None,
) -> Emitted:
    """Accept an event whose payload is JSON text and deliver it: at once, or when `deliver` says."""
    limits.check_deadline("the time of delivery", deliver)
    accept = _emit if deliver is None else partial(_schedule, deliver)
    sql.revive()
    try:
        return accept(environment or environments.current(), name, payload, external_id, run_id)
    except DataError as error:
        raise BadInput(f"the event was not accepted: PostgreSQL cannot store it ({error})") from error
    except OperationalError as error:
        why = sql.reason(error)
        raise DatabaseUnavailable(f"the event was not accepted: the database did not answer ({why})") from error


def emit_as(
    environment: int, name: str, payload: str, *, external_id: str | None, actor: str, deliver: Deadline = None
) -> Emitted:
    """The same, by somebody who is noted; the same one again is no deed."""
    with transaction.atomic():
        emitted = emit(name, payload, environment=environment, external_id=external_id, deliver=deliver)
        if not emitted.cached:
            after = {"name": name} if deliver is None else {"name": name, "deliver": str(deliver)}
            audit.record(environment, actor, "event.send", emitted.id, after=after)
    return emitted


def replay(event_id: UUID, *, actor: str = "") -> UUID:
    """Send an event once more, as a new one without its sender's id; which one. Raises `NotFound`, `BadInput`."""
    found = Event.objects.filter(pk=event_id).first()
    if found is None:
        raise ids.missing("event", event_id)
    if found.status != EventStatus.DELIVERED:
        raise BadInput(f"{ids.show('event', event_id)} is {found.status}: only one that happened can be sent once more")
    with transaction.atomic():
        again = emit(found.name, json.dumps(found.payload), environment=found.environment_id).id
        audit.record(found.environment_id, actor, "event.replay", event_id, after={"event": str(again)})
    return again


_ACCEPT = sql.Hot(
    "INSERT INTO triggerapp_event (id, environment_id, name, payload, external_id, source_run) "
    "VALUES (%s, %s, %s, %s::jsonb, %s, %s) ON CONFLICT DO NOTHING RETURNING id"
)
_RESOLVE = sql.Hot(
    "UPDATE triggerapp_wait SET status = 'resolved', value = %s, event = %s, resolved_at = now() "
    # In the order of their ids, as a run's end takes them (`wakes.CLOSE_WAITS`): neither locks the other out.
    "WHERE id IN (SELECT id FROM triggerapp_wait WHERE id = ANY(%s) AND status = 'pending' ORDER BY id FOR UPDATE) "
    "RETURNING id"
)


def _emit(environment: int, name: str, payload: str, external_id: str | None, run_id: UUID | None) -> Emitted:
    with transaction.atomic():
        lock(environment, name)
        point("event.locked")
        row = sql.row(_ACCEPT, [new_id(), environment, name, payload, external_id, run_id])
        if row is None:
            return _known(environment, external_id)
        _deliver(environment, name, row["id"], json.loads(payload))
        point("event.before_commit")
    point("event.after_commit")
    return Emitted(id=row["id"], cached=False)


def _deliver(environment: int, name: str, event: UUID, payload: Json) -> None:
    """Have it reach what it matches; under its name's lock, in the transaction that makes it known."""
    listeners = sql.rows(_LISTENERS, [environment, name, environment, subscriptions.names_of(name)])
    subscriptions.note(environment, event, payload, [row for row in listeners if row["task"]])
    shapes = [tuple(row["paths"]) for row in listeners if not row["task"]]
    matched = _resolve_matching(environment, name, event, payload, shapes)
    if matched:
        wakes.wake_after_commit(matched)


# Both at once: each event pays for each look.
_LISTENERS = sql.Hot(
    "SELECT paths, NULL AS task, NULL AS filter FROM triggerapp_filtershape WHERE environment_id = %s AND name = %s "
    "UNION ALL "
    "SELECT NULL, task, filter::text FROM triggerapp_subscription WHERE environment_id = %s AND name = ANY(%s)"
)


_SCHEDULE = (
    "INSERT INTO triggerapp_event (id, environment_id, name, payload, external_id, source_run, status, deliver_at) "
    "VALUES (%s, %s, %s, %s::jsonb, %s, %s, 'scheduled', COALESCE(%s::timestamptz, now() + %s::interval)) "
    "ON CONFLICT DO NOTHING RETURNING id"
)


def _schedule(
    deliver: Deadline, environment: int, name: str, payload: str, external_id: str | None, run_id: UUID | None
) -> Emitted:
    at, after = (deliver, None) if isinstance(deliver, datetime) else (None, deliver)
    with transaction.atomic():
        row = sql.row(_SCHEDULE, [new_id(), environment, name, payload, external_id, run_id, at, after])
        if row is None:
            return _known(environment, external_id)
        sql.after_commit(sql.notify)
    return Emitted(id=row["id"], cached=False)


_DUE = sql.Hot(
    "SELECT id, name FROM triggerapp_event WHERE environment_id = %s AND status = 'scheduled' AND deliver_at <= now() "
    "ORDER BY deliver_at LIMIT %s"
)
_MAKE_KNOWN = (
    "UPDATE triggerapp_event SET status = 'delivered', created_at = now() WHERE id = %s AND status = 'scheduled' "
    "RETURNING id, payload"
)


def deliver_due(limit: int = 500) -> int:
    """Deliver the events whose time has come; how many."""
    environment = environments.current()
    due = sql.rows(_DUE, [environment, limit])
    return sum(_deliver_or_put_off(environment, row["name"], row["id"]) for row in due)


_PUT_OFF = "UPDATE triggerapp_event SET deliver_at = now() + interval '1 minute' WHERE id = %s AND status = 'scheduled'"


def _deliver_or_put_off(environment: int, name: str, event: UUID) -> bool:
    """One that cannot be delivered keeps no other from it, nor the ticker awake; it is tried again in a minute."""
    try:
        return _deliver_later(environment, name, event)
    except sql.UNANSWERED:
        raise
    except Exception:
        log.exception("event %s could not be delivered", event)
        sql.run(_PUT_OFF, [event])
        return False


def _deliver_later(environment: int, name: str, event: UUID) -> bool:
    """False if another ticker delivered it, or somebody called it off."""
    with transaction.atomic():
        lock(environment, name)
        row = sql.row(_MAKE_KNOWN, [event])
        if row is None:
            return False
        _deliver(environment, name, event, _json(row["payload"]))
        point("event.before_delivery")
    point("event.after_delivery")
    return True


def cancel(event: UUID, *, environment: int, actor: str = "") -> bool:
    """Call off an event that was not delivered yet; False if that was done before. Raises `NotFound`, `IllegalMove`."""
    with transaction.atomic():
        row = sql.row(
            "SELECT status FROM triggerapp_event WHERE id = %s AND environment_id = %s FOR UPDATE", [event, environment]
        )
        if row is None:
            raise ids.missing("event", event)
        if row["status"] == EventStatus.DELIVERED:
            raise IllegalMove(f"{ids.show('event', event)} was delivered: it cannot be called off any more")
        if row["status"] == EventStatus.CANCELED:
            return False
        sql.run("UPDATE triggerapp_event SET status = 'canceled', created_at = now() WHERE id = %s", [event])
        audit.record(environment, actor, "event.cancel", event)
    return True


def _known(environment: int, external_id: str | None) -> Emitted:
    row = sql.row(
        "SELECT id FROM triggerapp_event WHERE environment_id = %s AND external_id = %s", [environment, external_id]
    )
    if row is None:
        raise DatabaseUnavailable("the event with this id is gone; send it again")
    return Emitted(id=row["id"], cached=True)


def _resolve_matching(
    environment: int, name: str, event: UUID, payload: Json, shapes: Sequence[tuple[str, ...]]
) -> list[UUID]:
    # Not prepared: only with the signatures in sight does the planner take their index.
    candidates = sql.rows(
        "SELECT id, filter FROM triggerapp_wait WHERE status = 'pending' AND kind = 'event' AND environment_id = %s "
        "AND name = %s AND signatures && %s::bigint[]",
        [environment, name, [found for shape in shapes for found in filters.event_signatures(name, shape, payload)]],
    )
    matched = [row["id"] for row in candidates if filters.matches(_filter(row["filter"]), payload)]
    if not matched:
        return []
    value = as_value({"id": event, "name": name, "payload": payload})
    won = sql.rows(_RESOLVE, [value, event, matched])
    return [row["id"] for row in won]


def _filter(value: Json) -> Json:
    return _json(value) or {}


def _json(value: Json) -> Json:
    """What a column of JSON holds, which comes as text."""
    return json.loads(value) if isinstance(value, str) else value


def subscribe(environment: int, name: str, filter: Json) -> list[int]:
    """Make known that waits with this shape of filter exist; the signatures to find this one by."""
    shape = filters.shape(filter or {})
    sql.run(
        "INSERT INTO triggerapp_filtershape (environment_id, name, paths) VALUES (%s, %s, %s::varchar[]) "
        "ON CONFLICT DO NOTHING",
        [environment, name, list(shape)],
    )
    return filters.signatures(name, shape, filter or {})


def earlier(environment: int, name: str, filter: Json, *, since: timedelta | None, unseen_by: UUID) -> sql.Row | None:
    """The oldest event that matches, no older than `since`, that this run has not had yet."""
    window = conf.get().EVENT_LOOKBACK if since is None else since
    if not window:
        return None
    pinned = filters.containments(filter or {})
    narrow = "".join(f" AND ({' OR '.join(['payload @> %s::jsonb'] * len(choices))})" for choices in pinned)
    found = sql.rows(
        "SELECT id, name, payload FROM triggerapp_event e WHERE environment_id = %s AND name = %s "
        f"AND status = 'delivered' AND created_at >= now() - %s::interval{narrow} AND NOT EXISTS "
        "(SELECT 1 FROM triggerapp_wait w WHERE w.run_id = %s AND w.event = e.id) ORDER BY created_at, id",
        [environment, name, window, *(json.dumps(doc) for choices in pinned for doc in choices), unseen_by],
    )
    for row in found:
        row["payload"] = _json(row["payload"])
        if filters.matches(filter or {}, row["payload"]):
            return row
    return None


def as_value(event: sql.Row) -> str:
    """What a wait on an event resolves with, as JSON text."""
    return json.dumps({"id": str(event["id"]), "name": event["name"], "payload": event["payload"]})


_PRUNE = """
WITH old AS (
  DELETE FROM triggerapp_event WHERE id IN (
    SELECT id FROM triggerapp_event e
    WHERE environment_id = %s AND created_at < now() - %s AND status <> 'scheduled'
    -- A task that it is to start may be in code that is not running for a while.
    AND NOT EXISTS (SELECT 1 FROM triggerapp_start s WHERE s.event_id = e.id AND s.run IS NULL AND s.error = ''
                    AND s.created_at > now() - %s)
    LIMIT %s FOR UPDATE SKIP LOCKED
  ) RETURNING id
), forgotten AS (DELETE FROM triggerapp_start USING old WHERE event_id = old.id)
SELECT count(*) AS n FROM old
"""


def prune(limit: int = 1000) -> int:
    """Delete events that are older than their retention, with what they started; how many."""
    settings = conf.get()
    params = [environments.current(), settings.EVENT_RETENTION, settings.RUN_RETENTION, limit]
    row = sql.row(_PRUNE, params)
    assert row is not None
    return int(row["n"])
