"""Suspending and resuming by checkpoint.

First one process, beside CRIU's own command; then many runs on two slots of a worker, all of which wait as images.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import checkpoint
from triggerapp.engine import sql
from workers.bench import mounts, noop, stage, tasks
from workers.bench.freezing import GRAFTED
from workers.bench.report import Figure
from workers.bench.stage import PATIENCE, BenchError, Stage, Worker

TITLE = "checkpoint: one Django and Celery process, dumped and restored"

_DUMP_TARGET, _RESTORE_TARGET = 1.15, 1.25
_STORED_TARGET = 0.4
_GRAFTED_TARGET = 0.65
_MEGA = 1_000_000


def measure(on: Stage) -> list[Figure]:
    """Dump and restore by phase, ours beside CRIU's."""
    verdict = checkpoint.check()
    if not verdict.ok:
        raise BenchError(f"nothing can be dumped here:\n{verdict}")
    mounts.provide_run()
    return [*_of_one(on), *_of_many(on)]


def _of_one(on: Stage) -> list[Figure]:
    on.say("a process is dumped and restored")
    found = _samples(on.pick(30, quick=3))
    seconds, sizes = found["seconds"], found["sizes"]
    figures = [figure for name in sorted(seconds) for figure in _latency(name, seconds[name])]
    return [
        *figures,
        _ratio("dump by our driver, as a ratio", seconds, "dump: CRIU", "dump by criu", _DUMP_TARGET),
        _ratio("dump until it is stored, as a ratio", seconds, "dump", "dump by criu", None),
        _ratio("restore by our driver, as a ratio", seconds, "restore: CRIU", "restore by criu", _RESTORE_TARGET),
        _ratio("restore until it has called back, as a ratio", seconds, "restore", "restore by criu", None),
        _size("image", sizes["image"], None),
        _size("stored", sizes["stored"], _STORED_TARGET),
        _size("memory of its own, restored", sizes["private"], None),
        *_of_grafted(seconds, sizes),
    ]


def _of_grafted(seconds: Mapping[str, Sequence[float]], sizes: Mapping[str, Sequence[float]]) -> list[Figure]:
    """The same where processes have their base mapped, beside those that have a copy."""
    by_criu, image = f"restore: CRIU{GRAFTED}", f"image{GRAFTED}"
    return [
        _ratio("restore by CRIU, base mapped / copied", seconds, by_criu, "restore: CRIU", _GRAFTED_TARGET),
        _ratio("restore until it has called back, base mapped / copied", seconds, f"restore{GRAFTED}", "restore", None),
        _size(image, sizes[image], None),
        _size(f"stored{GRAFTED}", sizes[f"stored{GRAFTED}"], _STORED_TARGET),
        _size(f"memory of its own, restored{GRAFTED}", sizes[f"private{GRAFTED}"], None),
    ]


def _of_many(on: Stage) -> list[Figure]:
    size = on.waiting or on.pick(1000, quick=20)
    with tempfile.TemporaryDirectory(prefix="checkpoint-bench-") as store:
        os.environ[tasks.STORE] = store
        try:
            with on.worker(naps=5) as worker:
                return [*_of_none(on, worker), *_suspend_and_resume(on, worker, size, Path(store))]
        finally:
            del os.environ[tasks.STORE]


def _of_none(on: Stage, worker: Worker) -> list[Figure]:
    """What a run that never waits pays in a process of its own, and as `auto` has it."""
    size, rounds = on.pick((1000, 5), quick=(100, 2))
    kinds = {"own": tasks.own_noop, "auto": tasks.durable_noop, "pool": tasks.pool_noop}
    found = noop.rates_of(on, worker, kinds, size=size, rounds=rounds)
    value = {key: statistics.median(rates) for key, rates in found.items()}
    names = {"own": "in its own process", "auto": "where auto has it", "pool": "in the pool process"}
    return [
        Figure(name=f"no-op {names[kind]} / in the pool process, {how}", value=value[kind, how] / value["pool", how])
        for kind in ("own", "auto")
        for how in ("drain", "live")
    ] + [
        Figure(name=f"no-op, CPU of all processes, {where}", value=value[kind, "cpu"], unit="ms", lower_is_better=True)
        for kind, where in names.items()
    ]


def _suspend_and_resume(on: Stage, worker: Worker, size: int, store: Path) -> list[Figure]:
    on.say(f"{size:,} runs are suspended")
    far = datetime.now(UTC) + timedelta(days=1)
    asleep = _seconds(lambda: _sleep(worker, size, far))
    images, at_rest = _images(), len(worker.run_processes())
    stored, disk = _stored(store), _on_disk(store)
    on.say(f"{size:,} runs are resumed")
    sql.run("UPDATE triggerapp_wait SET expires_at = now()")
    awake = _seconds(lambda: worker.until(lambda: stage.count("completed", tasks.sleep_until) == size))
    return [
        Figure(name=f"of {size:,} suspended runs, those with an image", value=images, target=size),
        Figure(name="their processes", value=at_rest, target=0, lower_is_better=True),
        Figure(
            name="stored for each", value=stored / size / _MEGA, unit="MB", target=_STORED_TARGET, lower_is_better=True
        ),
        Figure(name="disk for each, the base included", value=disk / size / _MEGA, unit="MB", lower_is_better=True),
        Figure(name="suspended on 2 slots (trigger, start, dump, store)", value=size / asleep, unit="/s"),
        Figure(name="resumed on 2 slots (wake, restore, complete)", value=size / awake, unit="/s"),
        Figure(name="entered again instead of restored", value=_entered_again(), target=0, lower_is_better=True),
    ]


def _sleep(worker: Worker, size: int, until: datetime) -> None:
    for _ in range(size):
        tasks.sleep_until.delay(until.isoformat())
    worker.until(lambda: stage.count("waiting", tasks.sleep_until) == size, every=0.05)


def _seconds(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _stored(folder: Path) -> int:
    """The bytes of all images, without their base."""
    return sum(path.stat().st_size for path in folder.glob("*/*.checkpoint"))


def _on_disk(folder: Path) -> int:
    """What the file system has given to the store."""
    return 512 * sum(path.stat().st_blocks for path in folder.rglob("*"))


def _images() -> int:
    found = sql.rows("SELECT count(*) AS n FROM triggerapp_checkpoint")
    return int(found[0]["n"])


def _entered_again() -> int:
    """Attempts that say why they could not use their image, or make one."""
    found = sql.rows("SELECT count(*) AS n FROM triggerapp_attempt WHERE note ~ 'entered again|not dumped'")
    return int(found[0]["n"])


def _samples(rounds: int) -> dict[str, dict[str, list[float]]]:
    done = subprocess.run(
        [sys.executable, "-m", "workers.bench.freezing", str(rounds)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the process to be measured failed:\n{done.stderr[-3000:]}")
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout)
    return found


def _latency(name: str, seconds: Sequence[float]) -> list[Figure]:
    """The median and the slowest twentieth, in milliseconds."""
    ordered = sorted(seconds)
    slow = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return [
        Figure(name=f"{name}, p50", value=1000 * statistics.median(ordered), unit="ms", lower_is_better=True),
        Figure(name=f"{name}, p95", value=1000 * slow, unit="ms", lower_is_better=True),
    ]


def _ratio(name: str, seconds: Mapping[str, Sequence[float]], ours: str, raw: str, target: float | None) -> Figure:
    """Of medians, which one slow round does not move."""
    value = statistics.median(seconds[ours]) / statistics.median(seconds[raw])
    return Figure(name=name, value=value, target=target, lower_is_better=True)


def _size(name: str, sizes: Sequence[float], target: float | None) -> Figure:
    value = statistics.median(sizes) / _MEGA
    return Figure(name=name, value=value, unit="MB", target=target, lower_is_better=True)
