"""A run's life between claim and end.

Each verb is one statement where it can be: the move, its attempt row and the word to the parent's
wait commit together or not at all.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from triggerapp.engine import dispatch, environments, sql, wakes
from triggerapp.errors import StaleRun
from triggerapp.failpoints import point
from triggerapp.models import Status
from triggerapp.models.moves import FINAL, move_sql

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The run is ours until its lease passes on; with its journal, if it has one."""

    run_id: UUID
    task_id: str
    lease: int
    again: bool
    """Not the first claim: there may be a journal."""
    attempt: int
    environment: int
    error: Json
    """What is left to do is to roll back, because of this."""
    delivered: bool
    """And Celery was told that it failed."""
    rollbacks: int
    max_attempts: int | None
    max_duration: timedelta | None
    computed: timedelta
    root: UUID | None
    parent: UUID | None
    tags: list[str]
    metadata: Json
    replayed: bool
    steps: list[sql.Row]
    waits: list[sql.Row]
    children: list[sql.Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The run has ended, but Celery was not told: result, callbacks and chord are still to be sent."""

    run_id: UUID
    status: str
    result: bytes | None
    result_type: str
    error: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Nothing to do: another delivery was first, or the run is waiting or over."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """The run is another environment's, whose code, settings and secrets are not here."""

    environment: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such run: a message of a producer that knows nothing of us."""


_JOURNAL = """
  , (SELECT json_agg(json_build_object('key', s.key, 'digest', s.digest, 'value', s.value, 'error', s.error,
          'attempt', s.attempt, 'undoable', s.undoable, 'undone', s.undone)
          ORDER BY s.id) FROM triggerapp_step s WHERE s.run_id = claimed.id AND NOT s.superseded) AS steps,
  (SELECT json_agg(json_build_object('id', w.id, 'key', w.key, 'kind', w.kind, 'status', w.status, 'value', w.value,
          'event', w.event, 'name', w.name)
          ORDER BY w.opened_at) FROM triggerapp_wait w WHERE w.run_id = claimed.id) AS waits,
  (SELECT json_agg(json_build_object('id', c.id, 'task_id', c.task_id, 'key', c.parent_key))
          FROM triggerapp_run c WHERE c.parent_id = claimed.id AND c.parent_key IS NOT NULL) AS children
"""

_NEXT_LEASE = "lease + 1 + floor(random() * 1048576)::bigint"
"""Not just the next number: a claim that PostgreSQL forgot in a crash must not have the number of the one after it."""

_CLAIM = f"""
WITH claimed AS ({
    move_sql(
        Status.RUNNING,
        f"lease = {_NEXT_LEASE}, worker = %s, claimed_at = now(), started_at = COALESCE(started_at, now()), "
        "sent_at = LEAST(sent_at, %s::timestamptz), waiting_on = NULL, moving = false",
        "id = %s AND lease = %s AND status = 'queued' AND environment_id = %s AND "
        "(started_at IS NOT NULL OR expires_at IS NULL OR expires_at > now())",
        returning="*",
    )
}), opened AS (
  INSERT INTO triggerapp_attempt (run_id, number, worker) SELECT id, attempt, worker FROM claimed ON CONFLICT DO NOTHING
)
SELECT claimed.id AS run_id, task_id, lease, attempt, environment_id AS environment, error, delivered, rollbacks,
  max_attempts, max_duration,
  set_config('synchronous_commit', 'off', true) AS commit,
  computed, root_id AS root, parent_id AS parent, tags, metadata, replay_of_id IS NOT NULL AS replayed
  {{journal}} FROM claimed
"""
_CLAIM_FIRST = sql.Hot(_CLAIM.format(journal=""))
_CLAIM_AGAIN = sql.Hot(_CLAIM.format(journal=_JOURNAL))


def claim(
    run_id: UUID, lease: int, worker: UUID, *, sent: str | None = None
) -> Claimed | Ended | Dropped | Foreign | Unknown:
    """Take the run that a message says to look at; `lease` is the number in that message, `sent` when it was sent.

    A run that was sent again may come by its first message: which one it was tells `rescue` how far the queue got.
    The disk is not waited for (docs/decisions/0005): a claim that is forgotten leaves the run to be claimed again.
    """
    point("claim.before_commit")
    environment = environments.current()
    row = sql.row(_CLAIM_AGAIN if lease else _CLAIM_FIRST, [worker, sent, run_id, lease, environment])
    if row is None:
        return _refused(run_id, lease, environment)
    point("claim.after_commit")
    del row["commit"]
    for name in ("steps", "waits", "children"):
        row[name] = _json(row.get(name)) or []
    return Claimed(**{**row, "again": lease > 0, "error": _json(row["error"]), "metadata": _json(row["metadata"])})


def _json(value: Json) -> Json:
    return json.loads(value) if isinstance(value, str) else value


def _refused(run_id: UUID, lease: int, environment: int) -> Ended | Dropped | Foreign | Unknown:
    row = sql.row(
        "SELECT environment_id, slug, status, lease, delivered, result, result_type, error "
        "FROM triggerapp_run r JOIN triggerapp_environment e ON e.id = r.environment_id WHERE r.id = %s",
        [run_id],
    )
    if row is None:
        return Unknown()
    if row["environment_id"] != environment:
        return Foreign(environment=row["slug"])
    if row["status"] not in FINAL or row["delivered"] or row["lease"] != lease:
        return Dropped(status=row["status"])
    result = None if row["result"] is None else bytes(row["result"])
    return Ended(
        run_id=run_id, status=row["status"], result=result, result_type=row["result_type"], error=_json(row["error"])
    )


_HELD = "id = %s AND lease = %s"
_SPENT = "computed = computed + (now() - claimed_at)"


def _end(status: Status, assign: str, *, where: str = _HELD, others: bool = True) -> sql.Hot:
    """End a run: close its attempt and its waits and tell the parent's wait, in one statement."""
    moved = move_sql(
        status,
        f"finished_at = now(), {_SPENT}, {assign}",
        where,
        returning="id, attempt, parent_wait, error, environment_id, task, status",
    )
    parts = f"""WITH ended AS ({moved}), closed AS (
      UPDATE triggerapp_attempt a SET finished_at = now(), outcome = '{status.value}', error = ended.error
      FROM ended WHERE a.run_id = ended.id AND a.number = ended.attempt
    )"""
    if not others:
        return sql.Hot(f"{parts} SELECT id FROM ended")
    return sql.Hot(f"""
    {parts}, told AS ({wakes.TELL_PARENT.format(ended="ended")}),
    unwaited AS ({wakes.CLOSE_WAITS.format(ended="ended")}), noted AS ({wakes.NOTE_END.format(ended="ended")})
    SELECT ended.id, (SELECT id FROM told WHERE status <> 'pending') AS wake FROM ended
    """)


_COMPLETED = "result = %s, result_type = %s, delivered = %s"
_COMPLETE = _end(Status.COMPLETED, _COMPLETED)
_COMPLETE_ALONE = _end(Status.COMPLETED, _COMPLETED, where=f"{_HELD} AND {wakes.ALONE}", others=False)
_FAIL = {
    status: _end(status, "error = %s::jsonb, delivered = %s")
    for status in (Status.FAILED, Status.TIMED_OUT, Status.CRASHED)
}


def complete(run_id: UUID, *, lease: int, result: bytes, result_type: str, delivered: bool = False) -> None:
    """The task returned. Raises `StaleRun` if the run is another's by now."""
    point("complete.before_commit")
    values = [result, result_type, delivered]
    if not _complete_alone([*values, run_id, lease]):
        _finish(_COMPLETE, values, run_id, lease)
    point("complete.after_commit")


_CROWDED = 10.0
"""Seconds for which ends are taken to concern others after one that did, or was not ours to write."""
_crowded_until = 0.0


def _complete_alone(values: list[object]) -> bool:
    """Complete a run whose end concerns nobody else, as that of most: a third less to do than for all that may be.

    The statement itself judges; False leaves everything as it was.
    """
    global _crowded_until
    if time.monotonic() < _crowded_until:
        return False
    if sql.row(_COMPLETE_ALONE, values) is not None:
        return True
    _crowded_until = time.monotonic() + _CROWDED
    return False


def fail(run_id: UUID, *, lease: int, error: Json, status: Status = Status.FAILED, delivered: bool = False) -> None:
    """The task raised and no attempts are left, or it ran too long. Raises `StaleRun`."""
    point("fail.before_commit")
    _finish(_FAIL[status], [json.dumps(error), delivered], run_id, lease)
    point("fail.after_commit")


def _finish(statement: str, values: list[object], run_id: UUID, lease: int) -> None:
    row = sql.row(statement, [*values, run_id, lease])
    if row is None:
        raise StaleRun(run_id, lease)
    if row["wake"] is not None:
        wakes.wake_after_commit([row["wake"]])


_RETRY_MOVE = move_sql(
    Status.PENDING,
    "due_at = now() + %s, attempt = attempt + 1, computed = interval '0', message = COALESCE(%s, message), "
    "payload = COALESCE(%s, payload), sends = 0, error = NULL, rollbacks = 0",
    f"{_HELD} AND status = 'running'",  # a person may retry what has ended; a worker whose run was rescued may not
    returning="id, attempt - 1 AS attempt",
)
_RETRY_HERE_MOVE = move_sql(
    Status.QUEUED,
    "attempt = attempt + 1, computed = interval '0', sent_at = NULL, rollbacks = 0",
    f"{_HELD} AND status = 'running'",
    returning="id, attempt - 1 AS attempt",
)
_RETRY = """
WITH retried AS ({move}), closed AS (
  UPDATE triggerapp_attempt a SET finished_at = now(), outcome = 'failed', error = %s::jsonb
  FROM retried WHERE a.run_id = retried.id AND a.number = retried.attempt
), superseded AS (
  UPDATE triggerapp_step s SET superseded = true FROM retried
  WHERE s.run_id = retried.id AND s.key = ANY(%s) AND s.error IS NOT NULL
)
SELECT id FROM retried
"""


def retry_later(
    run_id: UUID,
    *,
    lease: int,
    error: Json,
    delay: timedelta,
    failed_steps: list[str],
    message: dispatch.Message | None = None,
) -> None:
    """End this attempt and begin the next after `delay`; `failed_steps` are called again. Raises `StaleRun`."""
    point("retry.before_commit")
    envelope, body = (message.envelope(), message.body) if message else (None, None)
    statement = _RETRY.format(move=_RETRY_MOVE)
    if not sql.rows(statement, [delay, envelope, body, run_id, lease, json.dumps(error), failed_steps]):
        raise StaleRun(run_id, lease)
    point("retry.after_commit")
    sql.after_commit(sql.notify)


def retry_here(run_id: UUID, *, lease: int, error: Json, failed_steps: list[str]) -> None:
    """End this attempt of an eager run; the process it is in begins the next one. Raises `StaleRun`."""
    if not sql.rows(_RETRY.format(move=_RETRY_HERE_MOVE), [run_id, lease, json.dumps(error), failed_steps]):
        raise StaleRun(run_id, lease)


def release(run_id: UUID, *, lease: int) -> None:
    """Give a healthy run back, for another worker to go on with at once (deploys, rejected messages)."""
    point("release.before_commit")
    released = sql.rows(
        move_sql(Status.QUEUED, f"sent_at = now(), sends = 1, {_SPENT}", _HELD, returning=dispatch.COLUMNS),
        [run_id, lease],
    )
    point("release.after_commit")
    dispatch.after_commit(released)


_DELIVERED = sql.Hot(
    "UPDATE triggerapp_run SET delivered = true WHERE id = ANY(%s) AND finished_at IS NOT NULL "
    "RETURNING set_config('synchronous_commit', 'off', true)"
)


def mark_delivered(run_ids: list[UUID]) -> None:
    """Celery was told of the end of these runs. The disk is not waited for: what is forgotten is told again."""
    point("delivered.before_commit")
    sql.run(_DELIVERED, [run_ids])
    point("delivered.after_commit")


def stay(run_id: UUID, *, lease: int) -> None:
    """Go on after a wait in the process that kept waiting (eager runs). Raises `StaleRun`."""
    if not sql.rows(move_sql(Status.RUNNING, "waiting_on = NULL, claimed_at = now()", _HELD), [run_id, lease]):
        raise StaleRun(run_id, lease)


_IS_HELD = sql.Hot(f"SELECT 1 FROM triggerapp_run WHERE {_HELD} AND status = 'running' FOR SHARE")


def holds(run_id: UUID, lease: int) -> bool:
    """Whether the lease is still the run's; inside a transaction it stays so until the end."""
    return sql.row(_IS_HELD, [run_id, lease]) is not None


def is_over(run_id: UUID) -> bool:
    """Whether the run has ended."""
    return sql.row("SELECT 1 FROM triggerapp_run WHERE id = %s AND finished_at IS NOT NULL", [run_id]) is not None


def results(run_ids: list[UUID]) -> list[sql.Row]:
    """How these runs ended, in this order."""
    found = sql.rows(
        "SELECT id, task_id, task, status, result, result_type, error FROM triggerapp_run WHERE id = ANY(%s)", [run_ids]
    )
    by_id = {row["id"]: {**row, "error": _json(row["error"])} for row in found}
    return [by_id[run_id] for run_id in run_ids]


def set_metadata(run_id: UUID, metadata: Json, *, lease: int) -> None:
    """Replace the run's metadata. Raises `StaleRun`."""
    changed = sql.run(
        f"UPDATE triggerapp_run SET metadata = %s::jsonb WHERE {_HELD} AND status = 'running'",
        [json.dumps(metadata), run_id, lease],
    )
    if not changed:
        raise StaleRun(run_id, lease)
