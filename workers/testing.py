"""For users' tests: durable runs without the waiting.

Under `task.apply()` and `task_always_eager` waits resolve in place, and timers are slept out for
real; with `skip_timers()` they are not. `advance` moves the clock of one run that a worker has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from workers import timers

if TYPE_CHECKING:
    from workers.handle import RunHandle


@contextmanager
def skip_timers() -> Iterator[None]:
    """Within the block, timers of eager runs resolve at once."""
    token = timers.real.set(False)
    try:
        yield
    finally:
        timers.real.reset(token)


def advance(run: RunHandle[object] | str, **units: float) -> None:
    """Let time pass for one run: `advance(handle, days=2)` brings its deadlines that much nearer."""
    from triggerapp.engine import clockwork  # noqa: PLC0415  (needs Django)

    clockwork.bring_nearer(run if isinstance(run, str) else run.id, timedelta(**units))
