"""Runs that a hard time limit killed: which limit it was, what undoes them, and how they end.

The worker's main process kills, and has told Celery by then; what the run was about is read here.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

from triggerapp import conf
from triggerapp.engine import dispatch, runs, sql, undoing
from triggerapp.errors import StaleRun
from triggerapp.failpoints import point
from triggerapp.models import Status
from triggerapp.models.moves import move_sql

Json = dict[str, Any]


def time_out(run_id: UUID, worker: UUID, *, seconds: float) -> None:
    """A hard time limit killed the run's process after so many seconds; Celery was told by the worker."""
    row = sql.row(
        "SELECT lease, message, max_duration, error::text AS noted FROM triggerapp_run WHERE id = %s AND worker = %s",
        [run_id, worker],
    )
    if row is None:
        return
    error = {"type": "celery.exceptions:TimeLimitExceeded", "message": _explained(row, seconds), "traceback": ""}
    if not _sent_to_roll_back(run_id, row["lease"], error):
        _end(run_id, row["lease"], error, noted=row["noted"])


_ROLL_BACK = move_sql(
    Status.QUEUED,
    # Another lease, because Celery sends the message of a task with `acks_late` again, which is not marked as told.
    "lease = lease + 1, error = COALESCE(error, %s::jsonb), delivered = true, crashes = crashes + 1, "
    "computed = computed + (now() - claimed_at), sent_at = now(), sends = 1",
    f"id = %s AND lease = %s AND status = 'running' AND ({undoing.IS_DUE} OR (error IS NOT NULL AND crashes + 1 < %s))",
    returning=dispatch.COLUMNS,
)


def _sent_to_roll_back(run_id: UUID, lease: int, error: Json) -> bool:
    """Have another process undo what it did; False if there is nothing, or if that was killed too often itself.

    The limit bounds each of these entries too, and `MAX_CRASHES` how many there are.
    """
    noted = json.dumps({**error, "status": Status.TIMED_OUT})
    point("timeout.before_commit")
    sent = sql.rows(_ROLL_BACK, [noted, run_id, lease, conf.get().MAX_CRASHES])
    point("timeout.after_commit")
    dispatch.after_commit(sent)
    return bool(sent)


def _end(run_id: UUID, lease: int, error: Json, *, noted: str | None) -> None:
    status = Status.TIMED_OUT
    if noted is not None:
        error, status = undoing.split(json.loads(noted))
        error["message"] = f"{error['message']} (and its rollbacks were killed by a time limit)"
    with suppress(StaleRun):
        runs.fail(run_id, lease=lease, error=error, status=status, delivered=True)


def _explained(row: sql.Row, seconds: float) -> str:
    """Which limit it was: `dispatch` gives Celery the nearer of the message's own and that of `max_duration`."""
    own: Any = (json.loads(row["message"])["headers"].get("timelimit") or [None])[0]
    if row["max_duration"] is None or seconds == own:
        return f"ran longer than its hard time limit of {seconds:g} s"
    return (
        f"computed for longer than its max_duration of {row['max_duration'].total_seconds():g} s, and came to no step "
        f"or wait within {dispatch.GRACE.total_seconds():g} s after that"
    )
