"""Retention: each kind of row that goes by its age, the one list of them, and how old runs are deleted.

Of every kind a little is deleted at a time, and none waits for a row that somebody else is deleting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from triggerapp import conf
from triggerapp.engine import (
    batches,
    deliveries,
    environments,
    events,
    logs,
    notices,
    packets,
    schedules,
    sql,
    tokens,
    workers,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rows that go by their age."""

    prune: Callable[[int], int]
    """Deletes so many that are too old, at most; how many there were."""
    kept: str
    """For how long: the setting that says it, or the time itself where there is none."""


def prune_runs(limit: int = 1000) -> int:
    """Delete ended runs that are older than their retention, with all that belongs to them; how many."""
    old = sql.rows(
        "SELECT id FROM triggerapp_run WHERE environment_id = %s AND finished_at < now() - %s AND delivered "
        "LIMIT %s FOR UPDATE SKIP LOCKED",
        [environments.current(), conf.get().RUN_RETENTION, limit],
    )
    ids = [row["id"] for row in old]
    for which in (
        "step WHERE NOT superseded AND run_id",
        "step WHERE superseded AND run_id",
        "wait WHERE run_id",
        "attempt WHERE run_id",
        "checkpoint WHERE run_id",
        "logline WHERE run_id",
        "restore WHERE run_id",
        "batchitem WHERE run",
        "run WHERE id",
    ):
        sql.run(f"DELETE FROM triggerapp_{which} = ANY(%s)", [ids])
    return len(ids)


KINDS: Final[dict[str, Kind]] = {
    "runs": Kind(prune=prune_runs, kept="RUN_RETENTION"),
    "lines": Kind(prune=logs.prune, kept="LOG_RETENTION"),
    "events": Kind(prune=events.prune, kept="EVENT_RETENTION"),
    "tokens": Kind(prune=tokens.prune, kept="RUN_RETENTION"),
    "batches": Kind(prune=batches.prune, kept="RUN_RETENTION"),
    "firings": Kind(prune=schedules.prune, kept="RUN_RETENTION"),
    "deliveries": Kind(prune=deliveries.prune, kept="WEBHOOK_RETENTION"),
    "notices": Kind(prune=notices.prune, kept="WEBHOOK_RETENTION"),
    "packets": Kind(prune=packets.prune, kept="a day"),
    "workers": Kind(prune=workers.prune, kept="a day"),
}
"""Runs come first: with them go their steps, waits and lines, and events and batches stay until the runs have gone."""
