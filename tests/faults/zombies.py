"""Zombies: a worker is stopped for three leases, another takes its run over, and the stopped one comes back.

`unfenced` builds the workers without leases, as a mutant: the checker must notice.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from tests.faults import processes
from tests.faults.world import World

STOPPED = 6.0
"""Seconds: three leases."""
_LINGER = (1.0, 5.0)
"""Seconds that the step takes the stopped worker, and then the other: it is at it when the first comes back."""


def play(world: World, *, fenced: bool) -> dict[str, Any]:
    """Stop a worker in the middle of a step; what the checker says after it came back."""
    before = (lambda: None) if fenced else take_fences_down
    run = world.call("trigger", "lingering", list(_LINGER))
    zombie = world.worker(before=before)
    assert processes.until(lambda: world.ledger.with_name(f"{world.ledger.name}.lingered").exists(), within=20)
    held = _lease(world, run)
    processes.signal_all(zombie, signal.SIGSTOP)
    stopped = time.monotonic()
    world.worker(before=before)
    took_over = processes.until(lambda: _lease(world, run) > held, within=STOPPED)
    time.sleep(max(0.0, stopped + STOPPED - time.monotonic()))
    met = world.live() == 1
    processes.signal_all(zombie, signal.SIGCONT)
    processes.until(lambda: world.live() == 0, within=15, every=0.1)
    time.sleep(1.0)  # for the zombie's last words
    result = world.call("result", run)
    return {
        "took_over": took_over,
        "met": met,
        "violations": world.violations(kills=1),
        "status": world.one("SELECT status FROM triggerapp_run WHERE id = %s", run),
        "result": result,
        "left": world.log.read_text().count(" ignored"),
        "log": world.tail(),
    }


def _lease(world: World, run: str) -> int:
    return int(world.one("SELECT lease FROM triggerapp_run WHERE id = %s", run))


def take_fences_down() -> None:
    """Every write of a worker's forgets whose run it is."""
    from triggerapp.engine import runs, steps

    steps._RECORD = steps._RECORD.replace("AND lease = %s AND status = 'running'", "AND %s IS NOT NULL")
    steps._recorded_by = lambda run_id, key: None
    record = steps.record

    def record_anyway(run_id: Any, key: str, *, lease: int, **fields: Any) -> None:
        try:
            record(run_id, key, lease=lease, **fields)
        except steps.StaleRun:
            return

    steps.record = record_anyway
    runs._COMPLETE = runs._COMPLETE.replace(runs._HELD, "id = %s AND %s IS NOT NULL")
