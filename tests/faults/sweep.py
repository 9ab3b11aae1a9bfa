"""The sweep's scenario: the reference run, with one fault at one occurrence of one failpoint."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Any
from uuid import uuid4

from tests.faults import processes
from tests.faults.processes import ClientDied
from tests.faults.world import World

PATIENCE = 300.0
"""Seconds until a run counts as lost: several imports of everything, on processors shared with other lanes."""
_LOOK = 0.2
"""Seconds between two looks at a scenario: twelve are played at a time, and each look asks the database."""
_LATE = 15.0
"""Seconds after the run's end in which a tick still gets to the fault's occurrence."""


def play(world: World, *, fails: bool, fault: str = "", client_fault: str = "") -> dict[str, Any]:
    """Run the reference run to its end over the fault; what came of it.

    With both faults it is the client that triggers that dies, and what the worker's fault makes of that is looked at.
    """
    run = _trigger(world, fails, client_fault)
    if fault:
        world.once.unlink(missing_ok=True)
    plan = f"{fault};once={world.once}" if fault else f"count={world.counts}"
    victim, other, ready = world.worker(fail=plan), False, 0.0
    emitted = False
    deadline = time.monotonic() + PATIENCE
    started = time.monotonic()
    while time.monotonic() < deadline:
        if not world.live():
            deadline = min(deadline, time.monotonic() + (0.0 if _has_fired(world, fault) else _LATE))
        if not other and not processes.is_alive(victim):
            other = bool(world.worker(log=world.other_log))
        if other and not ready and " ready." in world.other_log.read_text():
            ready = time.time()
        if not emitted and _awaits_go(world, run):
            _emit(world, run, "" if fault else client_fault)
            emitted = True
        processes.reap()
        time.sleep(_LOOK)
    return _report(world, run, fails, fault, ready=ready, seconds=time.monotonic() - started)


def _has_fired(world: World, fault: str) -> bool:
    return not fault or world.once.exists()


def _trigger(world: World, fails: bool, fault: str) -> str:
    """Trigger as a careful caller does: with an id of its own, again if the outcome is unknown."""
    run = str(uuid4())
    try:
        world.call("trigger", "reference", [fails], run, fail=fault)
    except ClientDied:
        world.once.touch()
        if world.one("SELECT count(*) FROM triggerapp_run") == 0:
            world.call("trigger", "reference", [fails], run)
    return run


def _awaits_go(world: World, run: str) -> bool:
    query = "SELECT 1 FROM triggerapp_wait WHERE run_id = %s AND name = 'go' AND status = 'pending'"
    return bool(world.rows(query, run))


def _emit(world: World, run: str, fault: str) -> None:
    for fail in (fault, ""):
        try:
            world.call("emit", "go", {"run": run, "said": "go"}, f"go {run}", fail=fail)
        except ClientDied:
            world.once.touch()
        else:
            return


def _report(world: World, run: str, fails: bool, fault: str, *, ready: float, seconds: float) -> dict[str, Any]:
    result = world.call("result", run)
    fired = world.once.exists()
    violations = world.violations(kills=int(fired))
    violations += _wrong_end(world, run, result, fails)
    violations += _left_processes()
    moment = max(ready, world.once.stat().st_mtime) if fired else 0.0  # no run waits for how long a worker imports
    ran = Counter((each.run, each.key) for each in world.executions())
    return {
        "fired": fired,
        "violations": violations,
        "pause": world.pause_since(moment) if fired else 0.0,
        "lost": world.live(),
        "again": sum(ran.values()) - len(ran) - world.one("SELECT count(*) FROM triggerapp_step WHERE superseded"),
        "counts": Counter(world.counts.read_text().split()) if world.counts.exists() else {},
        "seconds": seconds,
        "log": world.tail() if violations or world.live() else "",
    }


def _left_processes() -> list[str]:
    """Run processes whose worker is gone, also frozen ones and those that nobody is the parent of."""
    found = partial(processes.orphaned, "workers.zygote")
    processes.until(lambda: not found(), within=60.0)
    return [f"process {pid} is left: {state}" for pid, state in found()]


def _wrong_end(world: World, run: str, result: dict[str, Any], fails: bool) -> list[str]:
    """The run's end, as the database and as Celery tell it."""
    status = world.one("SELECT status FROM triggerapp_run WHERE id = %s", run)
    undone = world.one("SELECT count(*) FROM triggerapp_step WHERE run_id = %s AND key LIKE 'rollback:%%'", run)
    steps = world.one("SELECT count(*) FROM triggerapp_step WHERE run_id = %s AND error IS NULL", run)
    wanted = ("failed", "FAILURE", 13, 1) if fails else ("completed", "SUCCESS", 12, 0)
    found = (status, result["state"], steps, undone)
    wrong = [] if found == wanted else [f"ended as {found}, not {wanted}"]
    return wrong if fails else wrong + _wrong_value(world, run, result["value"])


def _wrong_value(world: World, run: str, value: Any) -> list[str]:
    """What the run returned is what its steps, and its child's, recorded."""
    query = (
        "SELECT value FROM triggerapp_step s JOIN triggerapp_run r ON r.id = s.run_id "
        "WHERE (r.id = %s OR r.parent_id = %s) AND NOT superseded AND s.key NOT LIKE 'send:%%'"
    )
    recorded = sorted(str(row["value"]).strip('"') for row in world.rows(query, run, run))
    said = sorted([each for each in value or [] if each != "go"])
    return [] if recorded == said else [f"returned {said}, recorded {recorded}"]
