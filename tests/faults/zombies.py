"""Zombies: a worker is stopped in a step until another has taken its run over; then it comes back, and both go on.

`fenced=False` builds the workers without leases, as a mutant: the checker must notice. Nothing here is a matter of
time: each is let go only when the other is where it is wanted.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import processes
from tests.faults.world import World

_PATIENCE = 120.0
"""Seconds for one more worker to start, and for a run to go on, on a machine that is busy."""
_END = re.compile(r"lingering\[\S+\] (succeeded|ignored|raised)")


def play(world: World, *, fenced: bool) -> dict[str, Any]:
    """Stop a worker in the middle of a step; what the checker says after it came back."""
    before = (lambda: None) if fenced else take_fences_down
    run = world.call("trigger", "lingering", [])
    zombie = world.worker(before=before)
    assert _in_time(lambda: world.at_it() == 1), world.tail()
    held = _lease(world, run)
    processes.signal_all(zombie, signal.SIGSTOP)
    world.worker(before=before, log=world.other_log)
    met = _in_time(lambda: world.at_it() == 2)
    took_over = _lease(world, run) > held
    world.let_go(1)
    processes.signal_all(zombie, signal.SIGCONT)
    has_acted = _in_time(lambda: _ends(world.log) or _has_gone_on(world, run))
    earlier = len(_ends(world.other_log))
    world.let_go(2)
    ended = _in_time(lambda: _ends(world.log) and len(_ends(world.other_log)) > earlier and world.live() == 0)
    result = world.call("result", run)
    return {
        "steps": [met, took_over, has_acted, ended],
        "ends": [*_ends(world.log)[:1], *_ends(world.other_log)[earlier : earlier + 1]],
        "violations": world.violations(kills=1),
        "status": world.one("SELECT status FROM triggerapp_run WHERE id = %s", run),
        "result": result,
        "log": world.tail(),
    }


def _in_time(condition: Callable[[], object]) -> bool:
    return processes.until(condition, within=_PATIENCE)


def _has_gone_on(world: World, run: str) -> bool:
    """Whether the step after it is recorded: by the zombie, while the other is not let go."""
    return bool(world.rows("SELECT 1 FROM triggerapp_step WHERE run_id = %s AND key = 'act#2'", run))


def _ends(log: Path) -> list[str]:
    """Celery's words on how a worker's part of the run ended; one more for each message that was doubled."""
    return _END.findall(log.read_text())


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
    runs.holds = lambda run_id, lease: True
    runs._COMPLETE = runs._COMPLETE.replace(runs._HELD, "id = %s AND %s IS NOT NULL")
