"""Suspending and resuming by checkpoint: what it takes beside CRIU's own command on the same process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

import checkpoint
from workers.bench.report import Figure
from workers.bench.stage import PATIENCE, BenchError, Stage

TITLE = "checkpoint: one Django and Celery process, dumped and restored"

_DUMP_TARGET, _RESTORE_TARGET = 1.15, 1.25
_STORED_TARGET = 0.4
_MEGA = 1_000_000


def measure(on: Stage) -> list[Figure]:
    """Dump and restore by phase, ours beside CRIU's."""
    verdict = checkpoint.check()
    if not verdict.ok:
        raise BenchError(f"nothing can be dumped here:\n{verdict}")
    on.say("a process is dumped and restored")
    found = _samples(on.pick(30, quick=3))
    seconds, sizes = found["seconds"], found["sizes"]
    figures = [figure for name in sorted(seconds) for figure in _latency(name, seconds[name])]
    return [
        *figures,
        _ratio("dump by our driver, as a ratio", seconds, "dump: CRIU", "dump by criu", _DUMP_TARGET),
        _ratio("dump until it is stored, as a ratio", seconds, "dump", "dump by criu", _DUMP_TARGET),
        _ratio("restore by our driver, as a ratio", seconds, "restore: CRIU", "restore by criu", _RESTORE_TARGET),
        _ratio("restore until it has called back, as a ratio", seconds, "restore", "restore by criu", _RESTORE_TARGET),
        _size("image", sizes["image"], None),
        _size("stored", sizes["stored"], _STORED_TARGET),
    ]


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
