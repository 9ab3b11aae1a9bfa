"""Workers and their heartbeat.

One row a worker: as long as its ticker moves `expires_at` on, the leases of its runs are alive.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from triggerapp import conf
from triggerapp.engine import environments, sql


def beat(worker: UUID, *, hostname: str, pid: int) -> bool:
    """The worker is alive: its runs are safe for another lease. Whether the beat came in time.

    One that comes so late that a lease may have run out meanwhile, or the first one to a database that has just been
    started, says that others may not have been able to beat either.
    """
    settings = conf.get()
    mine = [worker, environments.current(), hostname, pid]
    row = sql.row(_BEAT, [worker, *mine, settings.LEASE, settings.HEARTBEAT, settings.LEASE])
    return bool(row and row["in_time"])


_BEAT = """
WITH before AS (SELECT expires_at FROM triggerapp_worker WHERE id = %s)
INSERT INTO triggerapp_worker (id, environment_id, hostname, pid, expires_at) VALUES (%s, %s, %s, %s, now() + %s)
ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at
RETURNING COALESCE((SELECT expires_at > now() + %s FROM before), pg_postmaster_start_time() < now() - %s) AS in_time
"""


def describe(worker: UUID, *, waiting: str) -> None:
    """Note for people how the worker's runs wait, and why so."""
    sql.run("UPDATE triggerapp_worker SET waiting = %s WHERE id = %s", [waiting, worker])


def leave(worker: UUID) -> None:
    """The worker is gone: its runs may be rescued at once."""
    sql.run("UPDATE triggerapp_worker SET expires_at = now() WHERE id = %s", [worker])


def prune(limit: int = 1000) -> int:
    """Forget workers that ended a day ago; how many."""
    return sql.delete_some("triggerapp_worker", "expires_at < now() - %s", [timedelta(days=1)], limit=limit)
