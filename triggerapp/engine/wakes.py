"""Waking runs: from a resolved wait back to the queue.

Whoever resolves a wait calls `wake_after_commit`; the ticker calls `expire_due` and `wake` and so
finds whatever was missed. A run is locked before its wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from triggerapp.engine import catalog, dispatch, environments, queues, sql
from triggerapp.failpoints import point
from triggerapp.models import Status
from triggerapp.models.moves import move_sql

TELL_PARENT = """
  UPDATE triggerapp_wait w SET remaining = w.remaining - 1,
    status = CASE WHEN w.remaining <= 1 THEN 'resolved' ELSE w.status END,
    resolved_at = CASE WHEN w.remaining <= 1 THEN now() END
  FROM {ended} WHERE w.id = {ended}.parent_wait AND w.status = 'pending' RETURNING w.id, w.status
"""
"""SQL: a child's end, told to its parent's wait in the child's own transaction."""


BY_END = "the end of its run"
"""Who resolved a wait that was closed because its run ended."""

CLOSE_WAITS = f"""
  UPDATE triggerapp_wait SET status = 'canceled', resolved_by = '{BY_END}', resolved_at = now(), woken = true
  WHERE id IN (SELECT w.id FROM triggerapp_wait w JOIN {{ended}} ON w.run_id = {{ended}}.id
               WHERE w.status = 'pending' AND w.kind <> 'runs' ORDER BY w.id FOR UPDATE OF w)
"""
"""SQL: nobody waits any more; whoever completes such a token is told so (`token_closed`).

In the order of their ids, as an event that resolves many takes them. Waits for children stay: nobody outside sees
them, and the count of those that ended must be right if the run is retried.
"""

NOTE_END = f"""
  INSERT INTO triggerapp_notice (environment_id, destination_id, kind, about)
  SELECT d.environment_id, d.id, 'run.' || {{ended}}.status, {{ended}}.id
  FROM {{ended}} JOIN triggerapp_destination d ON d.environment_id = {{ended}}.environment_id
  WHERE d.disabled_at IS NULL AND 'run.' || {{ended}}.status = ANY(d.wants)
    AND (cardinality(d.tasks) = 0 OR {{ended}}.task = ANY(d.tasks))
    AND NOT starts_with({{ended}}.task, '{catalog.OURS}')
"""
"""SQL: a run's end, noted for whoever wants to hear of it (`notices`), in the run's own transaction.

Not of our own runs: a destination that is down would hear of that for ever.
"""

ALONE = """parent_wait IS NULL
  AND NOT EXISTS (SELECT 1 FROM triggerapp_wait w WHERE w.run_id = triggerapp_run.id AND w.status = 'pending')
  AND NOT EXISTS (SELECT 1 FROM triggerapp_destination d WHERE d.disabled_at IS NULL)
"""
"""SQL condition: there is nothing to do of the above three when this run ends."""


_EXPIRE_DUE = sql.Hot(
    "UPDATE triggerapp_wait SET status = CASE WHEN kind = 'timer' THEN 'resolved' ELSE 'timed_out' END, "
    "resolved_at = now() WHERE id IN (SELECT id FROM triggerapp_wait WHERE environment_id = %s AND status = 'pending' "
    "AND expires_at <= now() ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING id"
)


def expire_due(limit: int = 500) -> list[UUID]:
    """Resolve waits whose deadline has passed: timers with nothing, the others as timed out."""
    point("tick.expire")
    due = sql.rows(_EXPIRE_DUE, [environments.current(), limit])
    if due:
        point("expire.after_commit")
    return [row["id"] for row in due]


def expire_one(wait: UUID) -> None:
    """Resolve this wait if its deadline has passed."""
    sql.run(
        "UPDATE triggerapp_wait SET status = CASE WHEN kind = 'timer' THEN 'resolved' ELSE 'timed_out' END, "
        "resolved_at = now(), woken = true WHERE id = %s AND status = 'pending' AND expires_at <= clock_timestamp()",
        [wait],
    )


def wake_after_commit(found: Sequence[UUID]) -> None:
    """Wake the runs suspended on these resolved waits; a tick finds those that this misses."""
    sql.after_commit(partial(wake, list(found)))


_READY = """
  SELECT r.id, w.id AS wait FROM triggerapp_wait w JOIN triggerapp_run r ON r.waiting_on = w.id
  WHERE w.environment_id = %s AND r.environment_id = w.environment_id AND w.status <> 'pending' AND NOT w.woken
    AND r.status = 'waiting' AND NOT r.is_eager AND {which}
  LIMIT %s FOR UPDATE OF r SKIP LOCKED
"""
_ADMITS = queues.ADMITS.format(run="triggerapp_run")


def _move_ready(status: Status, assign: str, condition: str, *, which: str) -> sql.Hot:
    moved = move_sql(status, assign, f"id IN (SELECT id FROM ready) AND {condition}", returning="*")
    return sql.Hot(f"""
    WITH ready AS ({_READY.format(which=which)}), moved AS ({moved}), told AS (
      UPDATE triggerapp_wait w SET woken = true FROM moved, ready WHERE ready.id = moved.id AND w.id = ready.wait
    )
    SELECT {dispatch.COLUMNS} FROM moved
    """)


_TO_QUEUED, _TO_PENDING = (
    {which: _move_ready(status, assign, condition, which=which) for which in ("TRUE", "w.id = ANY(%s)")}
    for status, assign, condition in (
        (Status.QUEUED, "sent_at = now(), sends = 1", _ADMITS),
        (Status.PENDING, "due_at = NULL", f"NOT ({_ADMITS})"),
    )
)


def wake(found: Sequence[UUID] | None = None, *, limit: int = 500) -> int:
    """Move waiting runs whose wait is resolved on to their queue, and send their messages; how many."""
    which = "TRUE" if found is None else "w.id = ANY(%s)"
    params = [environments.current(), *([] if found is None else [list(found)]), limit]
    point("wake.before_commit")
    woken = sql.rows(_TO_QUEUED[which], params)
    point("wake.after_commit")
    dispatch.after_commit(woken)
    if found is None or len(woken) < len(found):
        sql.rows(_TO_PENDING[which], params)
    return len(woken)


def forget_unwaited() -> None:
    """Resolved tokens that nobody is suspended on need no waking."""
    sql.run(
        "UPDATE triggerapp_wait SET woken = true WHERE id IN (SELECT id FROM triggerapp_wait w "
        "WHERE w.environment_id = %s AND NOT w.woken AND w.status <> 'pending' AND NOT EXISTS "
        "(SELECT 1 FROM triggerapp_run r WHERE r.waiting_on = w.id AND r.status = 'waiting') FOR UPDATE SKIP LOCKED)",
        [environments.current()],
    )


# A run that has been due for longer stays pending because of its queue, and is no reason to look again at once; nor is
# an event that could not be delivered.
_NEXT_DEADLINE = sql.Hot(
    "SELECT extract(epoch FROM LEAST((SELECT min(expires_at) FROM triggerapp_wait "
    "WHERE environment_id = %s AND status = 'pending' AND expires_at IS NOT NULL), "
    "(SELECT min(due_at) FROM triggerapp_run "
    "WHERE environment_id = %s AND status = 'pending' AND due_at > now() - interval '1 second'), "
    "(SELECT min(deliver_at) FROM triggerapp_event "
    "WHERE environment_id = %s AND status = 'scheduled' AND deliver_at > now() - interval '1 second')) - now()) "
    "AS seconds"
)


def next_deadline() -> float | None:
    """Seconds until the next wait, delayed run or delayed event is due; None if there is none."""
    row = sql.row(_NEXT_DEADLINE, [environments.current()] * 3)
    return None if row is None or row["seconds"] is None else float(row["seconds"])
