"""Steps of a run on one slot, beside what one connection can insert and commit."""

from __future__ import annotations

import statistics
import time
from uuid import uuid4

from django.db import connection

from triggerapp.engine import sql
from workers.bench import stage, tasks
from workers.bench.report import Figure
from workers.bench.stage import Stage, Worker

TITLE = "steps on one slot, beside raw inserts of one connection"

_INSERT = (
    "INSERT INTO triggerapp_step (run_id, key, digest, lease, attempt, value, started_at) "
    "VALUES (%s, %s, %s, 1, 1, '1', now())"
)


def measure(on: Stage) -> list[Figure]:
    """Rounds in turn: raw inserts, ten-step runs, one long run; medians."""
    runs, rounds, inserts = on.pick((200, 5, 4000), quick=(30, 2, 500))
    raw, short, long = [], [], []
    with on.worker(slots=1) as worker:
        for number in range(rounds):
            on.say(f"steps, round {number + 1} of {rounds}")
            raw.append(_raw(inserts))
            short.append(_ten_step_runs(worker, runs))
            long.append(_one_run(worker, 5 * runs))
    return _figures(statistics.median(raw), statistics.median(short), statistics.median(long))


def _raw(count: int) -> float:
    """The same kind of row, prepared and committed one by one."""
    connection.ensure_connection()
    run_id, digest = uuid4(), "0" * 64
    started = time.perf_counter()
    for number in range(count):
        connection.connection.execute(_INSERT, [run_id, f"nothing#{number}", digest], prepare=True)
    rate = count / (time.perf_counter() - started)
    sql.run("DELETE FROM triggerapp_step WHERE run_id = %s", [run_id])
    return rate


def _ten_step_runs(worker: Worker, count: int) -> float:
    worker.pause()
    results = [tasks.ten_steps.delay() for _ in range(count)]
    started = time.perf_counter()
    worker.go_on()
    worker.settle(results)
    rate = 10 * count / (time.perf_counter() - started)
    stage.forget(results)
    return rate


def _one_run(worker: Worker, count: int) -> float:
    result = tasks.many_steps.delay(count)
    worker.settle([result])
    return count / float(result.get())


def _figures(raw: float, short: float, long: float) -> list[Figure]:
    return [
        Figure(name="raw insert and commit, one connection", value=raw, unit="/s"),
        Figure(name="steps in runs of ten", value=short, unit="/s"),
        Figure(name="steps in runs of ten: ratio", value=short / raw, target=0.5, goal=0.7),
        Figure(name="steps in one long run", value=long, unit="/s"),
        Figure(name="steps in one long run: ratio", value=long / raw, target=0.5, goal=0.7),
        Figure(name="one step", value=1000 / long, unit="ms", lower_is_better=True),
    ]
