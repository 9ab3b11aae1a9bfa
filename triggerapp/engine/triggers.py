"""Accepting runs: from the moment `trigger` returns, a run is a committed row and cannot be lost.

The message goes out after commit; if the broker is down, a tick sends it later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DataError, OperationalError, transaction

from triggerapp import conf
from triggerapp.engine import audit, dispatch, environments, limits, queues, sql
from triggerapp.engine.dispatch import Message
from triggerapp.errors import BadInput, DatabaseUnavailable
from triggerapp.failpoints import point
from triggerapp.models.runs import new_id

Json = Any
Deadline = timedelta | datetime | None
_INLINE_CHUNK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What is to be run, when and as whose child."""

    task: str
    message: Message
    queue: str
    run_id: UUID = field(default_factory=new_id)
    task_id: str = ""
    nesting: int = 0
    delay: Deadline = None
    ttl: Deadline = None
    max_duration: timedelta | None = None
    max_attempts: int | None = None
    parent: UUID | None = None
    parent_key: str | None = None
    parent_wait: UUID | None = None
    root: UUID | None = None
    replay_of: UUID | None = None
    version: str | None = None
    """The registered version that it is for: noted on the run, and not enforced yet."""
    idempotency_key: str | None = None
    idempotency_ttl: timedelta | None = None
    concurrency_key: str | None = None
    priority: int = 0
    tags: Sequence[str] = ()
    metadata: Json = None
    send: bool = True
    """False where the worker that adopts the run goes on to claim it."""
    is_eager: bool = False
    elsewhere: bool = False
    """It belongs to another environment, whose ticker admits and sends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """The run that stands for a trigger: a new one, or the one that was there already."""

    run_id: UUID
    task_id: str
    cached: bool


def trigger(request: Trigger, *, environment: int | None = None) -> Triggered:
    """Accept one run. Raises `BadInput` for options that cannot be, `DatabaseUnavailable` if nothing was accepted."""
    (triggered,) = trigger_many([request], environment=environment)
    return triggered


def trigger_many(
    requests: Sequence[Trigger], *, environment: int | None = None, actor: str | None = None
) -> list[Triggered]:
    """Accept runs, in order, all or none; inside `atomic()` they are accepted with its commit.

    With an `actor` the audit log has an entry for each that is new. Runs of another `environment` than this process's
    are sent by a ticker over there: its broker is not ours.
    """
    for request in requests:
        check(request)
    sql.revive()
    try:
        here = environments.current()
        environment = environment or here
        if environment != here:
            requests = [replace(request, elsewhere=True) for request in requests]
        with transaction.atomic() if len(requests) > _INLINE_CHUNK else nullcontext():
            inserted = _insert(environment, requests, actor)
    except DataError as error:
        raise BadInput(f"the run was not accepted: PostgreSQL cannot store one of its options ({error})") from error
    except OperationalError as error:
        raise DatabaseUnavailable(
            "the run was not accepted and nothing was sent: the database did not answer "
            f"({sql.reason(error)}). Trigger it again."
        ) from error
    dispatch.after_commit(_sendings(requests, inserted))
    _notify_if_soon(requests)
    return [_triggered(environment, request, inserted.get(request.run_id)) for request in requests]


def check(request: Trigger) -> None:
    """Refuse options that cannot be. Raises `BadInput`."""
    limits.check_payload(request.task, request.message.body)
    for name, check_option in limits.OPTIONS.items():
        check_option(getattr(request, name))
    limits.check_text("the task id", request.task_id or None)
    limits.check_text("the name of the task", request.task)
    limits.check_text("the name of the queue", request.queue)


_COLUMNS = (
    "id task_id nesting environment_id queue_id task status message payload due_at expires_at sent_at sends "
    "max_duration max_attempts parent_id parent_key parent_wait root_id replay_of_id version idempotency_key "
    "idempotency_digest idempotency_expires_at concurrency_key priority tags metadata is_eager"
).split()

_ROW = (
    "(%s, %s, %s, %s, %s, %s, CASE WHEN %s = 'queued' AND (SELECT paused FROM triggerapp_queue WHERE id = %s) "
    "THEN 'pending' ELSE %s END, %s, %s, COALESCE(%s::timestamptz, now() + %s::interval), "
    "COALESCE(%s::timestamptz, now() + %s::interval), CASE WHEN %s THEN now() END, %s, "
    "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + %s::interval, %s, %s, %s::varchar[], %s::jsonb, %s)"
)


def _insert_sql(count: int) -> str:
    return (
        f"INSERT INTO triggerapp_run ({', '.join(_COLUMNS)}) VALUES {', '.join([_ROW] * count)} "
        "ON CONFLICT DO NOTHING RETURNING id, task_id, status, sent_at, task, environment_id"
    )


def _noted_sql(count: int) -> str:
    """The same with its entries in the audit log: one statement, so that one trigger needs no transaction around it."""
    return (
        f"WITH accepted AS ({_insert_sql(count)}), noted AS (INSERT INTO triggerapp_auditentry "
        "(environment_id, actor, action, target, after) SELECT environment_id, %s::varchar, 'task.trigger', task, "
        "jsonb_build_object('run', id) FROM accepted) SELECT id, task_id, status, sent_at FROM accepted"
    )


_INSERT_ONE = sql.Hot(_insert_sql(1))
_NOTED_ONE = sql.Hot(_noted_sql(1))


def _insert(environment: int, requests: Sequence[Trigger], actor: str | None) -> dict[UUID, sql.Row]:
    found: dict[UUID, sql.Row] = {}
    for start in range(0, len(requests), _INLINE_CHUNK):
        chunk = requests[start : start + _INLINE_CHUNK]
        for request in chunk:
            _forget_spent_key(environment, request)
        params = [value for request in chunk for value in _values(environment, request)]
        point("trigger.before_commit")
        if actor is None:
            statement = _INSERT_ONE if len(chunk) == 1 else _insert_sql(len(chunk))
        else:
            statement = _NOTED_ONE if len(chunk) == 1 else _noted_sql(len(chunk))
            params.append(audit.named(actor))
        found |= {row["id"]: row for row in sql.rows(statement, params)}
        point("trigger.after_commit")
    return found


def _values(environment: int, request: Trigger) -> Iterable[object]:
    queue = queues.identify(environment, request.queue)
    status = "pending" if request.delay is not None or request.elsewhere else "queued"
    sent = status == "queued"
    due_at, delay = moment(request.delay)
    expires_at, ttl = moment(request.ttl)
    key = request.idempotency_key
    # fmt: off
    return (
        request.run_id, request.task_id or str(request.run_id), request.nesting, environment, queue, request.task,
        status, queue, status, request.message.envelope(), request.message.body,
        due_at, delay, expires_at, ttl, sent, int(sent and request.send), request.max_duration, request.max_attempts,
        request.parent, request.parent_key, request.parent_wait, request.root, request.replay_of,
        request.version,
        key, key and digest(key), (request.idempotency_ttl or conf.get().IDEMPOTENCY_TTL) if key else None,
        request.concurrency_key, request.priority, list(request.tags), json.dumps(request.metadata or {}),
        request.is_eager,
    )
    # fmt: on


def moment(deadline: Deadline) -> tuple[datetime | None, timedelta | None]:
    """Split a deadline for SQL: an absolute time, or an interval from the database's now."""
    if isinstance(deadline, datetime):
        return deadline, None
    return None, deadline


def digest(key: str) -> str:
    """What is unique of an idempotency key, whatever its length."""
    return hashlib.sha256(key.encode()).hexdigest()


def _forget_spent_key(environment: int, request: Trigger) -> None:
    """A key whose time is over, or whose run failed, is free again."""
    if request.idempotency_key is None:
        return
    sql.run(
        "UPDATE triggerapp_run SET idempotency_digest = NULL WHERE environment_id = %s AND task = %s AND "
        "idempotency_digest = %s AND (idempotency_expires_at < now() OR "
        "status IN ('failed', 'crashed', 'timed_out', 'expired'))",
        [environment, request.task, digest(request.idempotency_key)],
    )


def forget_key(environment: int, task: str, key: str, *, actor: str) -> bool:
    """Free an idempotency key, whatever became of its run; False if no run has it."""
    with transaction.atomic():
        row = sql.row(
            "UPDATE triggerapp_run SET idempotency_digest = NULL "
            "WHERE environment_id = %s AND task = %s AND idempotency_digest = %s RETURNING id",
            [environment, task, digest(key)],
        )
        if row is not None:
            audit.record(environment, actor, "key.forget", row["id"], before={"idempotency_key": key})
    return row is not None


def _triggered(environment: int, request: Trigger, row: sql.Row | None) -> Triggered:
    if row is not None:
        return Triggered(run_id=row["id"], task_id=row["task_id"], cached=False)
    existing = sql.row(
        "SELECT id, task_id FROM triggerapp_run WHERE (environment_id = %s AND task = %s AND idempotency_digest = %s) "
        "OR (parent_id = %s AND parent_key = %s) OR (task_id = %s AND nesting = %s) "
        "ORDER BY (task_id = %s) LIMIT 1",
        [
            environment,
            request.task,
            request.idempotency_key and digest(request.idempotency_key),
            request.parent,
            request.parent_key,
            request.task_id or str(request.run_id),
            request.nesting,
            request.task_id,
        ],
    )
    if existing is None:
        raise DatabaseUnavailable("the run that this trigger collided with is gone; trigger it again")
    return Triggered(run_id=existing["id"], task_id=existing["task_id"], cached=True)


def _sendings(requests: Sequence[Trigger], inserted: Mapping[UUID, sql.Row]) -> Iterator[sql.Row]:
    """The rows to publish, as `dispatch.COLUMNS` would read: all is known here, and reading it back costs."""
    for request in requests:
        row = inserted.get(request.run_id)
        if row is not None and row["status"] == "queued" and request.send:
            yield {
                **row,
                "lease": 0,
                "message": request.message,
                "started_at": None,
                "computed": timedelta(),
                "max_duration": request.max_duration,
            }


def _notify_if_soon(requests: Sequence[Trigger]) -> None:
    soon = 2 * conf.get().TICK
    if any(r.elsewhere or (isinstance(r.delay, timedelta) and r.delay < soon) for r in requests):
        sql.after_commit(sql.notify)
