"""A tick over many waiting runs of which none is due."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from triggerapp.engine import queues, rescue, wakes
from workers.bench import waiting
from workers.bench.report import Figure
from workers.bench.stage import Stage

TITLE = "a tick over waiting runs, none due"

_EACH: tuple[tuple[str, Callable[[], object]], ...] = (
    ("wakes.expire_due", wakes.expire_due),
    ("queues.admit", queues.admit),
    ("wakes.next_deadline", wakes.next_deadline),
)
"""What the ticker does in each tick."""
_OFTEN: tuple[tuple[str, Callable[[], object]], ...] = (
    ("wakes.wake", wakes.wake),
    ("wakes.forget_unwaited", wakes.forget_unwaited),
    ("rescue.expire", rescue.expire),
    ("rescue.rescue", rescue.rescue),
    ("rescue.resend", rescue.resend),
    ("rescue.redeliver", rescue.redeliver),
)
"""What it does in addition once a second."""


def measure(on: Stage) -> list[Figure]:
    """Each of the ticker's looks at the tables; the tick is their sum."""
    count, rounds = on.pick((100_000, 50), quick=(10_000, 10))
    on.say(f"tick: {count:,} runs are made to wait")
    with waiting.on_timers(count):
        on.say(f"tick: looking over {count:,} waiting runs")
        each = {name: _median(look, rounds) for name, look in _EACH}
        often = {name: _median(look, rounds) for name, look in _OFTEN}
    return [
        _figure(f"a tick over {count:,} waiting runs", sum(each.values()), target=5.0),
        _figure("a tick with the looks of once a second", sum(each.values()) + sum(often.values()), target=5.0),
        *(_figure(f"  {name}", value) for name, value in {**each, **often}.items()),
    ]


def _median(look: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        look()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _figure(name: str, seconds: float, *, target: float | None = None) -> Figure:
    return Figure(name=name, value=1000 * seconds, unit="ms", target=target, lower_is_better=True)
