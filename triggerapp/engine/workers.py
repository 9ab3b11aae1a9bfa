"""Workers and their heartbeat.

One row a worker: as long as its ticker moves `expires_at` on, the leases of its runs are alive.
"""

from __future__ import annotations

from uuid import UUID

from triggerapp import conf
from triggerapp.engine import sql


def beat(worker: UUID, *, hostname: str, pid: int) -> None:
    """The worker is alive: its runs are safe for another lease."""
    sql.run(
        "INSERT INTO triggerapp_worker (id, hostname, pid, expires_at) VALUES (%s, %s, %s, now() + %s) "
        "ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at",
        [worker, hostname, pid, conf.get().LEASE],
    )


def leave(worker: UUID) -> None:
    """The worker is gone: its runs may be rescued at once."""
    sql.run("UPDATE triggerapp_worker SET expires_at = now() WHERE id = %s", [worker])
