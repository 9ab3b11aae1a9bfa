"""A task that does nothing, durable and plain: what durability costs where it costs most."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from workers.bench import stage, tasks
from workers.bench.report import Figure
from workers.bench.stage import Stage, Worker

TITLE = "no-op task, 2 slots: durable beside plain Celery"

Rates = dict[tuple[str, str], list[float]]


def measure(on: Stage) -> list[Figure]:
    """Rounds in turn, plain and durable; medians."""
    size, rounds = on.pick((2000, 5), quick=(300, 2))
    kinds = {"plain": tasks.plain_noop, "durable": tasks.durable_noop}
    with on.worker() as worker:
        rates = rates_of(on, worker, kinds, size=size, rounds=rounds)
    return [*(figure for how in ("drain", "live", "enqueue") for figure in _figures(rates, how)), *_cpu(rates)]


def rates_of(on: Stage, worker: Worker, kinds: Mapping[str, Any], *, size: int, rounds: int) -> Rates:
    """Of tasks that do nothing, in turn: runs a second by kind and by how they were sent, and CPU a task."""
    rates: Rates = defaultdict(list)
    for number in range(rounds):
        for kind, task in kinds.items():
            on.say(f"no-op, round {number + 1} of {rounds}, {kind}")
            _drain(worker, task, size, kind, rates)
            _live(worker, task, size, kind, rates)
    return rates


def _drain(worker: Worker, task: Any, size: int, kind: str, rates: Rates) -> None:
    """Enqueue while nobody takes, then let the worker take all."""
    worker.pause()
    before = stage.count("completed", task)
    started = time.perf_counter()
    results = [task.delay() for _ in range(size)]
    rates[kind, "enqueue"].append(size / (time.perf_counter() - started))
    started, spent = time.perf_counter(), stage.cpu(worker.family())
    worker.go_on()
    worker.settle(results)
    rates[kind, "drain"].append(size / (time.perf_counter() - started))
    rates[kind, "cpu"].append(1000 * (stage.cpu(worker.family()) - spent) / size)
    if kind != "plain":
        worker.until(lambda: stage.count("completed", task) == before + size)
    stage.forget(results)


def _live(worker: Worker, task: Any, size: int, kind: str, rates: Rates) -> None:
    """Enqueue and run at the same time."""
    started = time.perf_counter()
    results = [task.delay() for _ in range(size)]
    worker.settle(results)
    rates[kind, "live"].append(size / (time.perf_counter() - started))
    stage.forget(results)


def _figures(rates: Rates, how: str) -> list[Figure]:
    plain, durable = (statistics.median(rates[kind, how]) for kind in ("plain", "durable"))
    target, goal = (None, None) if how == "enqueue" else (0.5, 0.8)
    return [
        Figure(name=f"{how}: plain Celery", value=plain, unit="/s"),
        Figure(name=f"{how}: durable", value=durable, unit="/s"),
        Figure(name=f"{how}: ratio", value=durable / plain, target=target, goal=goal),
    ]


def _cpu(rates: Rates) -> list[Figure]:
    """What a busy machine does not distort as much as it does the clock."""
    return [
        Figure(
            name=f"worker, pool and ticker, CPU a task: {kind}",
            value=statistics.median(rates[kind, "cpu"]),
            unit="ms",
            lower_is_better=True,
        )
        for kind in ("plain", "durable")
    ]
