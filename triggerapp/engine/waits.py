"""Waits: rows that resolve once, with a value.

A wait is resolved by whoever comes first: its deadline, an event, a token's holder, a child's end.
Later comers are ignored, so resolving is safe to repeat. Resolving touches waits only; the run is
woken afterwards, so no transaction holds two runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from triggerapp import conf, ids
from triggerapp.engine import events, sql, triggers, wakes
from triggerapp.engine.triggers import Trigger
from triggerapp.errors import BadInput, NotFound, StaleRun
from triggerapp.failpoints import point
from triggerapp.models import Status, WaitKind, WaitStatus
from triggerapp.models.moves import FINAL, move_sql
from triggerapp.models.runs import new_id

Json = Any
Deadline = timedelta | datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A wait that a run is about to enter."""

    key: str
    kind: WaitKind
    wait: UUID = field(default_factory=new_id)
    deadline: Deadline = None
    name: str = ""
    filter: Json = None
    lookback: timedelta | None = None
    children: Sequence[Trigger] = ()
    token: UUID | None = None
    """The token's wait row, made before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """How a wait ended."""

    status: str
    value: str | None = None
    event: UUID | None = None
    wait: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """The run waits now; nothing holds it."""

    wait: UUID


_SUSPEND = move_sql(
    Status.WAITING,
    "waiting_on = %s, computed = computed + (now() - claimed_at)",
    "id = %s AND lease = %s",
    returning="id, environment_id",
)
_DEADLINE = "COALESCE(%s::timestamptz, now() + %s::interval)"
_OPEN = sql.Hot(f"""
WITH run AS ({_SUSPEND})
INSERT INTO triggerapp_wait
  (id, run_id, environment_id, key, kind, name, filter, signatures, expires_at, remaining, value)
SELECT %s, id, environment_id, %s, %s, %s, %s::jsonb, %s::bigint[], {_DEADLINE}, %s, %s FROM run
""")


def suspend(run_id: UUID, opening: Opening, *, lease: int) -> Resolution | Suspended:
    """Open the wait and leave the run waiting on it, unless it is resolved already. Raises `StaleRun`."""
    point("suspend.before_commit")
    entered = _ENTER[opening.kind](run_id, opening, lease)
    point("suspend.after_commit")
    if isinstance(entered, Suspended) and _is_soon(opening.deadline):
        sql.after_commit(sql.notify)
    return entered


def _open(
    run_id: UUID, opening: Opening, lease: int, *, signatures: list[int] | None = None, children: Sequence[UUID] = ()
) -> Suspended:
    wait = opening.wait
    at, after = triggers.moment(opening.deadline)
    wanted = None if opening.filter is None else json.dumps(opening.filter)
    ids = json.dumps([str(child) for child in children]) if children else None
    # fmt: off
    params = [
        wait, run_id, lease,
        wait, opening.key, opening.kind.value, opening.name, wanted,
        signatures, at, after, len(children) or None, ids,
    ]
    # fmt: on
    if not sql.run(_OPEN, params):
        raise StaleRun(run_id, lease)
    return Suspended(wait=wait)


def _is_soon(deadline: Deadline) -> bool:
    return isinstance(deadline, timedelta) and deadline < 2 * conf.get().TICK


def _enter_event(run_id: UUID, opening: Opening, lease: int) -> Resolution | Suspended:
    """Rule 6: the event either is seen here, or sees this wait."""
    with transaction.atomic():
        environment = _environment(run_id, lease)
        events.lock(environment, opening.name)
        point("event_wait.locked")
        found = events.earlier(environment, opening.name, opening.filter, since=opening.lookback, unseen_by=run_id)
        if found is not None:
            return _record_resolved(run_id, opening, lease, event=found)
        signatures = events.subscribe(environment, opening.name, opening.filter)
        return _open(run_id, opening, lease, signatures=signatures)


_LOCKED = sql.Hot(
    "SELECT environment_id FROM triggerapp_run WHERE id = %s AND lease = %s AND status = 'running' FOR UPDATE"
)


def _environment(run_id: UUID, lease: int) -> int:
    row = sql.row(_LOCKED, [run_id, lease])
    if row is None:
        raise StaleRun(run_id, lease)
    return int(row["environment_id"])


def _record_resolved(run_id: UUID, opening: Opening, lease: int, *, event: sql.Row) -> Resolution:
    wait, value = opening.wait, events.as_value(event)
    sql.run(
        "INSERT INTO triggerapp_wait "
        "(id, run_id, environment_id, key, kind, name, filter, status, value, event, woken, resolved_at) "
        "SELECT %s, id, environment_id, %s, 'event', %s, %s::jsonb, 'resolved', %s, %s, true, now() "
        "FROM triggerapp_run WHERE id = %s AND lease = %s",
        [wait, opening.key, opening.name, json.dumps(opening.filter), value, event["id"], run_id, lease],
    )
    return Resolution(status=WaitStatus.RESOLVED, value=value, event=event["id"], wait=wait)


_SAT_OUT = sql.Hot(
    "INSERT INTO triggerapp_wait (id, run_id, environment_id, key, kind, status, woken, resolved_at) "
    "SELECT %s, id, environment_id, %s, 'timer', 'resolved', true, now() "
    "FROM triggerapp_run WHERE id = %s AND lease = %s AND status = 'running' FOR SHARE ON CONFLICT DO NOTHING"
)


def sat_out(run_id: UUID, opening: Opening, *, lease: int) -> Resolution:
    """Record a timer so short that its process kept its place until it was over. Raises `StaleRun`."""
    if not sql.run(_SAT_OUT, [opening.wait, opening.key, run_id, lease]) and not exists(opening.wait):
        raise StaleRun(run_id, lease)
    return Resolution(status=WaitStatus.RESOLVED, wait=opening.wait)


def _enter_token(run_id: UUID, opening: Opening, lease: int) -> Resolution | Suspended:
    with transaction.atomic():
        _environment(run_id, lease)
        row = sql.row(
            "UPDATE triggerapp_wait SET run_id = %s, key = COALESCE(NULLIF(key, ''), %s), "
            f"expires_at = LEAST(expires_at, {_DEADLINE}) "
            "WHERE id = %s AND (run_id IS NULL OR run_id = %s) RETURNING id, status, value",
            [run_id, opening.key, *triggers.moment(opening.deadline), opening.token, run_id],
        )
        if row is None:
            raise NotFound(f"token {opening.token} does not exist, or belongs to another run")
        if row["status"] != WaitStatus.PENDING:
            return Resolution(status=row["status"], value=row["value"], wait=row["id"])
        sql.run(_SUSPEND, [row["id"], run_id, lease])
        return Suspended(wait=row["id"])


def _enter_runs(run_id: UUID, opening: Opening, lease: int) -> Resolution | Suspended:
    """The wait and its children are one commit: no child can end before there is a wait to tell."""
    with transaction.atomic():
        _environment(run_id, lease)
        triggered = triggers.trigger_many([replace(child, parent_wait=opening.wait) for child in opening.children])
        suspended = _open(run_id, opening, lease, children=[child.run_id for child in triggered])
        over = [child for child in triggered if child.cached and not _tell_of(child.run_id, opening.wait)]
        if over:
            sql.run(_COUNT_ENDED, [len(over), len(over), len(over), opening.wait])
    if over:
        wakes.wake_after_commit([suspended.wait])
    return suspended


_COUNT_ENDED = (
    "UPDATE triggerapp_wait SET remaining = remaining - %s, status = CASE WHEN remaining <= %s THEN 'resolved' "
    "ELSE status END, resolved_at = CASE WHEN remaining <= %s THEN now() END WHERE id = %s"
)


def _tell_of(child: UUID, wait: UUID) -> bool:
    """Have the child tell this wait when it ends; False if it has ended (an idempotency key found it).

    The parent is locked here, and no transaction waits for two runs (rule 3): a child that another holds ends this
    one with an `OperationalError`, as a database that is away does, and all of it is tried again in a moment.
    (Triggering may wait for whoever changes the run that has the key; that one waits for nobody's run.)
    """
    row = sql.row("SELECT status, parent_wait FROM triggerapp_run WHERE id = %s FOR UPDATE NOWAIT", [child])
    if row is None or row["status"] in FINAL:
        return False
    if row["parent_wait"] is not None:
        raise BadInput(f"another run waits for {ids.show('run', child)} already, which this idempotency key stands for")
    sql.run("UPDATE triggerapp_run SET parent_wait = %s WHERE id = %s", [wait, child])
    return True


_ENTER = {
    WaitKind.TIMER: _open,
    WaitKind.RUNS: _enter_runs,
    WaitKind.EVENT: _enter_event,
    WaitKind.TOKEN: _enter_token,
}


def exists(wait: UUID) -> bool:
    """Whether the wait was opened, by a commit whose answer was lost."""
    return sql.row("SELECT 1 FROM triggerapp_wait WHERE id = %s", [wait]) is not None


def suspend_again(run_id: UUID, wait: UUID, *, lease: int) -> Resolution | Suspended:
    """Wait on a wait that is open already: the run was rescued, or retried, before it resolved."""
    with transaction.atomic():
        _environment(run_id, lease)
        row = sql.row("SELECT status, value, event FROM triggerapp_wait WHERE id = %s FOR UPDATE", [wait])
        if row is None:
            raise NotFound(f"wait {wait} is gone")
        if row["status"] != WaitStatus.PENDING:
            return Resolution(status=row["status"], value=row["value"], event=row["event"], wait=wait)
        sql.run(_SUSPEND, [wait, run_id, lease])
        return Suspended(wait=wait)


def resolve(wait: UUID, value: str | None, *, by: str = "", status: WaitStatus = WaitStatus.RESOLVED) -> bool:
    """Resolve `wait` with `value`, JSON text; False if it was resolved before."""
    point("resolve.before_commit")
    won = sql.run(
        "UPDATE triggerapp_wait SET status = %s, value = %s, resolved_by = %s, resolved_at = now() "
        "WHERE id = %s AND status = 'pending'",
        [status.value, value, by, wait],
    )
    point("resolve.after_commit")
    if won:
        wakes.wake_after_commit([wait])
    return bool(won)


_FORGET_SPENT_KEY = (
    "UPDATE triggerapp_wait SET idempotency_digest = NULL "
    "WHERE environment_id = %s AND idempotency_digest = %s AND idempotency_expires_at < now()"
)
_INSERT_TOKEN = (
    "INSERT INTO triggerapp_wait (id, run_id, environment_id, key, kind, expires_at, tags, idempotency_digest, "
    f"idempotency_expires_at) VALUES (%s, %s, %s, %s, 'token', {_DEADLINE}, %s::varchar[], %s, "
    "now() + %s::interval) ON CONFLICT DO NOTHING RETURNING id"
)
_SAME_TOKEN = (
    "SELECT id FROM triggerapp_wait "
    "WHERE (run_id = %s AND key = %s) OR (environment_id = %s AND idempotency_digest = %s)"
)


def create_token(
    environment: int,
    *,
    run_id: UUID | None,
    key: str,
    deadline: Deadline,
    tags: Sequence[str] = (),
    idempotency_digest: str | None = None,
    idempotency_ttl: timedelta | None = None,
) -> tuple[UUID, bool]:
    """A token's wait, not waited on by anyone yet; the same key gives the same token: `(id, cached)`."""
    if idempotency_digest:
        sql.run(_FORGET_SPENT_KEY, [environment, idempotency_digest])
    at, after = triggers.moment(deadline)
    values = [new_id(), run_id, environment, key, at, after, list(tags), idempotency_digest, idempotency_ttl]
    row = sql.row(_INSERT_TOKEN, values)
    if row is not None:
        return row["id"], False
    existing = sql.row(_SAME_TOKEN, [run_id, key, environment, idempotency_digest])
    if existing is None:
        raise NotFound("the token with this key is gone; create it again")
    return existing["id"], True
