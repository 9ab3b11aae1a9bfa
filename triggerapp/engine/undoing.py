"""Rollbacks that a run has left to run: what is known of them where its process is gone.

A rollback is a call, and lives in the process that registered it. Here it is only counted, so that a run is entered
again for its rollbacks if it has some, and is left again as soon as all are found.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from triggerapp.engine import sql
from triggerapp.errors import StaleRun
from triggerapp.failpoints import point
from triggerapp.models import Status

Json = dict[str, Any]

IS_DUE = """(error IS NULL AND (rollbacks > 0 OR EXISTS (
  SELECT 1 FROM triggerapp_step s
  WHERE s.run_id = triggerapp_run.id AND s.undoable AND NOT s.undone AND NOT s.superseded)))"""
"""SQL: whether a run that is to end has rollbacks, and was not sent to run them before."""
_HELD = "id = %s AND lease = %s AND status = 'running'"


def count(run_id: UUID, number: int, *, lease: int) -> None:
    """Note that so many rollbacks of no step are registered. Raises `StaleRun`."""
    point("count.before_commit")
    if not sql.run(f"UPDATE triggerapp_run SET rollbacks = %s WHERE {_HELD}", [number, run_id, lease]):
        raise StaleRun(run_id, lease)
    point("count.after_commit")


def begin(run_id: UUID, *, lease: int, error: Json, status: Status) -> None:
    """Note the failure before its rollbacks run: whoever takes the run over goes on rolling back. Raises `StaleRun`."""
    point("rollback.before_commit")
    noted = json.dumps({**error, "status": status})
    if not sql.run(f"UPDATE triggerapp_run SET error = %s::jsonb WHERE {_HELD}", [noted, run_id, lease]):
        raise StaleRun(run_id, lease)
    point("rollback.after_commit")


def split(noted: Json) -> tuple[Json, Status]:
    """The error of a run that rolls back, and the status that it ends with."""
    error = dict(noted)
    return error, Status(error.pop("status", Status.FAILED))
