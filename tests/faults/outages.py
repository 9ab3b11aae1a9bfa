"""Outages: broker emptied or killed, database stopped, pool processes and whole runs that die.

The servers are the test process's: a scenario asks it to stop and to start them.
"""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any
from uuid import UUID, uuid4

from tests.faults import processes
from tests.faults.world import World

_IGNORED = re.compile(r"plodding\[\S+\] ignored")


def flushed(world: World, *, runs: int) -> dict[str, Any]:
    """FLUSHALL while runs wait, while they are queued, and while they run."""
    started = time.monotonic()
    ids = world.call("trigger_many", "waiting", list(range(runs)))
    world.worker("-P", "prefork", "-c", "2")
    half = processes.until(lambda: _waiting(world) >= runs // 2, within=150)
    world.redis()[0].flushall()  # some wait, some are queued, some run
    all_wait = processes.until(lambda: _waiting(world) == runs, within=150)
    world.redis()[0].flushall()
    world.call("emit_many", "go on", list(range(runs)))
    world.redis()[0].flushall()  # the messages of those that were woken, and the results of those that have ended
    flushed = world.one("SELECT clock_timestamp()")
    ended = processes.until(lambda: world.live() == 0, within=150, every=0.1)
    later = "SELECT id FROM triggerapp_run WHERE finished_at > %s AND id = ANY(%s)"
    results = world.call(
        "results", [str(row["id"]) for row in world.rows(later, flushed, [UUID(each) for each in ids])]
    )
    return {
        "steps": [half, all_wait, ended],
        "lost": world.one("SELECT count(*) FROM triggerapp_run WHERE status <> 'completed'"),
        "told": len(results),
        "untold": [each["state"] for each in results if each["state"] != "SUCCESS"],
        "took": time.monotonic() - started,
        "violations": world.violations(kills=0),
        "log": world.tail(),
    }


def _waiting(world: World) -> int:
    return int(world.one("SELECT count(*) FROM triggerapp_run WHERE status = 'waiting'"))


def trigger_during(world: World, *, stop: str, start: str) -> dict[str, Any]:
    """Trigger while a server is down: what the caller sees, and what became of it once the server is back."""
    task_id = str(uuid4())
    world.worker()
    world.ask(stop)
    seen = world.call("trigger_or_error", "quick", [1], task_id)
    world.ask(start)
    accepted = world.one("SELECT count(*) FROM triggerapp_run")
    sent = world.redis()[0].llen("celery")
    ended = processes.until(lambda: world.live() == 0, within=150, every=0.1)
    told = world.call("result", task_id) if accepted else None
    return {"seen": seen, "accepted": accepted, "sent": sent, "ended": ended, "told": told, "log": world.tail()}


def carry_on(world: World, *, stop: str, start: str, down: float, rounds: int = 15, runs: int = 6) -> dict[str, Any]:
    """Runs at work, during which a server is away; all must end."""
    ids = world.call("trigger_many", "busy", list(range(runs)), rounds)
    worker = world.worker("-P", "prefork", "-c", "2")
    assert processes.until(world.executions, within=150)
    time.sleep(1.0)
    world.ask(stop)
    time.sleep(down)
    world.ask(start)
    repaired = time.monotonic()
    died = 0
    while world.live() and time.monotonic() < repaired + 150:
        if not processes.is_alive(worker):  # what a service manager does
            worker, died = world.worker("-P", "prefork", "-c", "2"), died + 1
        time.sleep(0.1)
    ended = world.live() == 0
    took = time.monotonic() - repaired
    alive = processes.is_alive(worker)
    later = world.call("trigger", "quick", [1])
    results = world.call("results", [*ids, later], 20.0)
    crashes = world.one("SELECT COALESCE(sum(crashes), 0) FROM triggerapp_run")
    return {
        "ended": ended,
        "died": died,
        "alive": alive,
        "took": took,
        "statuses": [row["status"] for row in world.rows("SELECT status FROM triggerapp_run")],
        "untold": [each for each in results if each["state"] != "SUCCESS"],
        "crashes": crashes,
        "violations": world.violations(kills=int(crashes)),
        "log": world.tail(20000),
    }


def poison(world: World, *, others: int) -> dict[str, Any]:
    """A run that kills its process each time, among others that do not."""
    bad = world.call("trigger", "poison", [])
    good = world.call("trigger_many", "quick", list(range(others)))
    worker = world.worker("-P", "prefork", "-c", "2")
    ended = processes.until(lambda: world.live() == 0, within=150, every=0.1)
    return {
        "ended": ended,
        "alive": processes.is_alive(worker),
        "poisoned": world.rows("SELECT status, crashes, attempt FROM triggerapp_run WHERE id = %s", bad)[0],
        "told": world.call("result", bad),
        "good": [each["state"] for each in world.call("results", good)],
        "tries": sum(each.run == bad for each in world.executions()),
        "violations": world.violations(kills=2),
        "log": world.tail(),
    }


def pool_process_killed(world: World) -> dict[str, Any]:
    """Only the pool process is killed, in the middle of a step."""
    run = world.call("trigger", "lingering", [])
    world.let_go(2)
    worker = world.worker()
    assert processes.until(lambda: world.at_it() == 1, within=150)
    killed = time.time()
    os.kill(world.executions()[-1].pid, signal.SIGKILL)
    ended = processes.until(lambda: world.live() == 0, within=150, every=0.1)
    return {
        "ended": ended,
        "alive": processes.is_alive(worker),
        "told": world.call("result", run),
        "pause": world.pause_since(killed),
        "violations": world.violations(kills=1),
        "log": world.tail(),
    }


def canceled(world: World) -> dict[str, Any]:
    """A run is canceled in the pause after two steps; how many it did until then, and in all."""
    run = world.call("trigger", "plodding", [])
    world.worker()
    assert processes.until(lambda: len(_steps_of(world, run)) >= 2, within=150)
    canceled = world.call("cancel", run)
    before = len(world.executions())
    time.sleep(6.0)  # a dozen ticks: the worker's ticker hears of it in one of them
    world.let_go(1)
    left = processes.until(lambda: _IGNORED.search(world.log.read_text()), within=150)
    return {
        "canceled": canceled,
        "left": left,
        "before": before,
        "after": len(world.executions()),
        "violations": world.violations(kills=0),
        "log": world.tail(),
    }


def _steps_of(world: World, run: str) -> list[dict[str, Any]]:
    return world.rows("SELECT id FROM triggerapp_step WHERE run_id = %s", run)


def main_process_killed(world: World) -> dict[str, Any]:
    """Only the main process is killed: an orphan of its pool goes on with a run that another worker takes over."""
    run = world.call("trigger", "lingering", [])
    world.let_go(2)
    worker = world.worker()
    assert processes.until(lambda: world.at_it() == 1, within=150)
    orphan = world.executions()[-1].pid
    killed = time.time()
    os.kill(worker, signal.SIGKILL)
    world.worker()
    ended = processes.until(lambda: world.live() == 0, within=150, every=0.1)
    world.let_go(1)
    gone = processes.until(lambda: not processes.is_alive(orphan), within=150)
    return {
        "ended": ended,
        "gone": gone,
        "told": world.call("result", run),
        "pause": world.pause_since(killed),
        "violations": world.violations(kills=1),
        "log": world.tail(),
    }
