"""Whether the timers of eager runs are slept out; `workers.testing.skip_timers` says otherwise."""

from __future__ import annotations

from contextvars import ContextVar

real: ContextVar[bool] = ContextVar("triggerapp_real_timers", default=True)
