"""From an event to the next line of the run that waited for it."""

from __future__ import annotations

import json
import time
from statistics import median

from django.db import transaction

from triggerapp.engine import events as engine
from triggerapp.engine import sql
from workers import events
from workers.bench import stage, tasks, waiting
from workers.bench.report import Figure, latency
from workers.bench.stage import Stage

TITLE = "events"
NAME = "bench/signed"


def measure(on: Stage) -> list[Figure]:
    """Latency with a worker; then only the finding, among few and among many waiting runs."""
    return [*_latency(on), *_finding(on)]


def _latency(on: Stage) -> list[Figure]:
    """Runs wait for events of one name, each for its own user; one event after the other."""
    count = on.pick(500, quick=100)
    with on.worker() as worker:
        on.say(f"events: {count} runs begin to wait")
        tasks.await_event.with_options(ignore_result=True).batch_trigger([(user,) for user in range(count)])
        worker.until(lambda: stage.count("waiting", tasks.await_event) == count, every=0.02)
        on.say(f"events: {count} events, one after the other")
        taken = []
        for user in range(count):
            started = time.time()
            events.send(NAME, {"user": user})
            worker.until(lambda done=user + 1: stage.count("completed", tasks.await_event) == done)  # type: ignore[misc]
            taken.append(_last_line() - started)
    return latency(f"event to next line, {count} waiting", taken, target=20.0)


def _last_line() -> float:
    row = sql.row(
        "SELECT convert_from(result, 'UTF8') AS said FROM triggerapp_run "
        "WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1"
    )
    assert row is not None
    return float(json.loads(row["said"]))


def _finding(on: Stage) -> list[Figure]:
    few, many = on.pick((1_000, 100_000), quick=(1_000, 10_000))
    samples = on.pick(200, quick=50)
    rounds = [{count: _emit_among(on, count, samples) for count in (few, many)} for _ in range(2)]
    seconds = {count: min(found[count] for found in rounds) for count in (few, many)}
    return [
        *(
            Figure(name=f"find and resolve 1 of {count:,} waiting", value=1000 * each, unit="ms", lower_is_better=True)
            for count, each in seconds.items()
        ),
        Figure(
            name=f"find and resolve: {many:,} to {few:,} waiting",
            value=seconds[many] / seconds[few],
            target=2.0,
            lower_is_better=True,
        ),
    ]


def _emit_among(on: Stage, count: int, samples: int) -> float:
    """The whole of an event but its commit, whose time is the disk's and not the number of waiting runs'."""
    on.say(f"events: {count:,} runs are made to wait on one name")
    times = []
    with waiting.on_events(count, NAME):
        for number in range(1, samples + 1):
            with transaction.atomic():
                started = time.perf_counter()
                engine.emit(NAME, json.dumps({"user": number * (count // samples)}))
                times.append(time.perf_counter() - started)
                _check_one_resolved()
                transaction.set_rollback(True)
    return median(times)


def _check_one_resolved() -> None:
    found = sql.rows("SELECT 1 FROM triggerapp_wait WHERE status <> 'pending' AND NOT woken")
    if len(found) != 1:
        raise stage.BenchError(f"an event that one run waited for has resolved {len(found)} waits")
