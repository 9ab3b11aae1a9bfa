"""Moving the clock of one run, for tests: its deadlines come nearer, nobody's else do."""

from __future__ import annotations

from datetime import timedelta

from triggerapp.engine import sql


def bring_nearer(run_id: str, by: timedelta) -> None:
    """Subtract `by` from the deadlines of the run and of its open waits."""
    sql.run(
        "UPDATE triggerapp_wait SET expires_at = expires_at - %s WHERE run_id = %s AND status = 'pending'", [by, run_id]
    )
    sql.run(
        "UPDATE triggerapp_run SET due_at = due_at - %s, expires_at = expires_at - %s WHERE id = %s", [by, by, run_id]
    )
    sql.after_commit(sql.notify)
