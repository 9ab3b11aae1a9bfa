"""Runs that sleep, on two slots: how late, how many a second, and what the worker holds meanwhile.

Twice. Together: all sleep at once and are due at the same moment. Paced: runs come at half the rate at
which they can be put to sleep and woken, and each sleeps 5 s, so that lateness is the ticker's and not the slots'.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from triggerapp.engine import sql
from workers.bench import memory, stage, tasks
from workers.bench.memory import Memory
from workers.bench.report import Figure, latency
from workers.bench.stage import Stage, Worker

TITLE = "sleeping runs on 2 slots"
PAUSE = 5.0
_CHUNK = 500
_LATENESS = """
SELECT extract(epoch FROM w.expires_at)::float8 AS due, convert_from(r.result, 'UTF8') AS woke
FROM triggerapp_run r JOIN triggerapp_wait w ON w.run_id = r.id WHERE r.status = 'completed' AND r.task = %s
"""


def measure(on: Stage) -> list[Figure]:
    """First the pace is found, then both ways are measured."""
    size = on.pick(20_000, quick=1_000)
    with on.worker() as worker:
        on.say("sleepers: the rate of no-op runs")
        rates = [_noop_rate(worker, on.pick(2000, quick=300))]
        asleep_rate, wake_rate, figures = _together(on, worker, size)
        rates.append(_noop_rate(worker, on.pick(2000, quick=300)))
        paced = _paced(on, worker, size, rate=0.5 / (1 / asleep_rate + 1 / wake_rate))
    noop = statistics.mean(rates)
    return [
        Figure(name="no-op runs in the same worker, drained", value=noop, unit="/s"),
        Figure(name=f"{size:,} due together: wakes", value=wake_rate, unit="/s"),
        Figure(name="wakes: ratio to no-op runs", value=wake_rate / noop, target=0.8),
        *figures,
        *paced,
    ]


def _noop_rate(worker: Worker, size: int) -> float:
    worker.pause()
    results = [tasks.durable_noop.delay() for _ in range(size)]
    started = time.perf_counter()
    worker.go_on()
    worker.settle(results)
    rate = size / (time.perf_counter() - started)
    stage.forget(results)
    return rate


def _together(on: Stage, worker: Worker, size: int) -> tuple[float, float, list[Figure]]:
    on.say(f"sleepers: {size:,} runs go to sleep")
    before = memory.of(worker.family())
    far = datetime.now(UTC) + timedelta(days=1)
    started = time.perf_counter()
    for start in range(0, size, _CHUNK):
        _trigger_many(tasks.sleep_until, far.isoformat(), min(_CHUNK, size - start))
    worker.until(lambda: stage.count("waiting", tasks.sleep_until) == size, every=0.05)
    asleep_rate = size / (time.perf_counter() - started)
    first = memory.of(worker.family())
    on.say(f"sleepers: {size:,} wait; memory is watched")
    time.sleep(on.pick(15, quick=3))
    last = memory.of(worker.family())
    sql.run("UPDATE triggerapp_wait SET expires_at = now() + %s", [timedelta(seconds=PAUSE)])
    due = _due_in()
    on.say(f"sleepers: {size:,} are due together")
    time.sleep(max(0.0, due))
    started = time.perf_counter()
    worker.until(lambda: stage.count("completed", tasks.sleep_until) == size, every=0.02)
    rate = size / (time.perf_counter() - started)
    figures = [
        Figure(name="going to sleep (trigger, start, suspend)", value=asleep_rate, unit="/s"),
        *_memory_figures(before, first, last),
        _early(_lateness(tasks.sleep_until)),
    ]
    return asleep_rate, rate, figures


def _due_in() -> float:
    found = sql.row("SELECT extract(epoch FROM min(expires_at) - now())::float8 AS seconds FROM triggerapp_wait")
    assert found is not None
    return float(found["seconds"])


def _memory_figures(before: Memory, first: Memory, last: Memory) -> list[Figure]:
    growth = last.proportional - first.proportional
    return [
        Figure(name="worker, pool and ticker before, RSS", value=before.resident, unit="MiB"),
        Figure(name="worker, pool and ticker before, PSS", value=before.proportional, unit="MiB"),
        Figure(name="all asleep, RSS", value=last.resident, unit="MiB"),
        Figure(name="all asleep, PSS", value=last.proportional, unit="MiB"),
        Figure(name="growth while they wait, PSS", value=growth, unit="MiB", target=10, lower_is_better=True),
        Figure(
            name="growth since before the first, PSS",
            value=last.proportional - before.proportional,
            unit="MiB",
            target=10,
            lower_is_better=True,
        ),
    ]


def _paced(on: Stage, worker: Worker, size: int, *, rate: float) -> list[Figure]:
    started = time.perf_counter()
    for number in range(size):
        if number % _CHUNK == 0:
            on.say(f"sleepers: {number:,} of {size:,}, {rate:.0f} a second, each sleeps {PAUSE:g} s")
        pause = started + number / rate - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        tasks.sleep_for.apply_async((PAUSE,), ignore_result=True)
    worker.until(lambda: stage.count("completed", tasks.sleep_for) == size, every=0.05)
    late = _lateness(tasks.sleep_for)
    return [
        Figure(name=f"{size:,} sleep {PAUSE:g} s, coming at", value=rate, unit="/s"),
        *latency("lateness", late),
        _early(late),
    ]


def _lateness(task: Any) -> list[float]:
    return [json.loads(row["woke"]) - row["due"] for row in sql.rows(_LATENESS, [task.name])]


def _early(late: Sequence[float]) -> Figure:
    early = sum(seconds < 0 for seconds in late)
    return Figure(name="woken early", value=early, target=0, lower_is_better=True)


def _trigger_many(task: Any, argument: object, count: int) -> None:
    task.with_options(ignore_result=True).batch_trigger([(argument,)] * count)
