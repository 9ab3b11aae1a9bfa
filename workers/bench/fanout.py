"""A run that triggers a hundred children and waits for all."""

from __future__ import annotations

import time

from workers.bench import stage, tasks
from workers.bench.report import Figure, latency
from workers.bench.stage import Stage

TITLE = "fan-out on 2 slots"
CHILDREN = 100


def measure(on: Stage) -> list[Figure]:
    """One parent after the other."""
    rounds = on.pick(20, quick=3)
    taken = []
    with on.worker() as worker:
        for number in range(rounds + 1):
            on.say(f"fan-out: {number} of {rounds} parents")
            started = time.perf_counter()
            worker.settle([tasks.fan_out.delay(CHILDREN)])
            taken.append(time.perf_counter() - started)
        ended = stage.count("completed", tasks.fan_out)
        if ended != rounds + 1:
            raise stage.BenchError(f"{ended} parents have completed, not {rounds + 1}")
    figures = latency(f"batch_trigger_and_wait of {CHILDREN}, trigger to end", taken[1:])
    return [*figures, Figure(name="children", value=1000 * CHILDREN / figures[0].value, unit="/s")]
