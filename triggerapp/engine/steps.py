"""Recording steps.

A step is written once, in one statement that also checks the lease: a worker that lost its run
records nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from triggerapp.engine import sql
from triggerapp.errors import StaleRun
from triggerapp.failpoints import point

# FOR SHARE conflicts with a claim or rescue that is changing the run's lease at this moment.
_RECORD = sql.Hot("""
INSERT INTO triggerapp_step (run_id, key, digest, lease, attempt, value, error, started_at, undoable)
SELECT id, %s, %s, lease, attempt, %s, %s, now() - %s, %s FROM triggerapp_run
WHERE id = %s AND lease = %s AND status = 'running' FOR SHARE
ON CONFLICT DO NOTHING
""")


def record(
    run_id: UUID,
    key: str,
    *,
    lease: int,
    digest: str,
    value: str | None,
    error: str | None,
    took: timedelta,
    undoable: bool = False,
) -> None:
    """Write a step's value or error. Raises `StaleRun` if the lease has passed on.

    Safe to repeat after a commit of unknown outcome: the same lease finds its own row and is content.
    """
    point("step.before_commit")
    written = sql.run(_RECORD, [key, digest, value, error, took, undoable, run_id, lease])
    if not written and _recorded_by(run_id, key) != lease:
        raise StaleRun(run_id, lease)
    point("step.after_commit")


def _recorded_by(run_id: UUID, key: str) -> int | None:
    row = sql.row("SELECT lease FROM triggerapp_step WHERE run_id = %s AND key = %s AND NOT superseded", [run_id, key])
    return None if row is None else int(row["lease"])


_SUPERSEDE = """
WITH held AS (SELECT id FROM triggerapp_run WHERE id = %s AND lease = %s AND status = 'running' FOR SHARE),
superseded AS (
  UPDATE triggerapp_step s SET superseded = true FROM held
  WHERE s.run_id = held.id AND s.key = ANY(%s) AND s.error IS NOT NULL AND NOT s.superseded
)
SELECT id FROM held
"""


def supersede(run_id: UUID, keys: Sequence[str], *, lease: int) -> None:
    """Have these failed steps called again by the next try of the step that they are in. Raises `StaleRun`."""
    point("supersede.before_commit")
    if not sql.rows(_SUPERSEDE, [run_id, lease, list(keys)]):
        raise StaleRun(run_id, lease)
    point("supersede.after_commit")


def mark_undone(run_id: UUID, key: str, *, lease: int) -> None:
    """Note that the step's rollback ran. Raises `StaleRun`."""
    point("undone.before_commit")
    marked = sql.run(
        "UPDATE triggerapp_step s SET undone = true FROM triggerapp_run r WHERE s.run_id = %s AND s.key = %s "
        "AND NOT s.superseded AND r.id = s.run_id AND r.lease = %s",
        [run_id, key, lease],
    )
    if not marked:
        raise StaleRun(run_id, lease)
    point("undone.after_commit")
