"""Retry: how long until the next attempt, or that there is none.

The rule is Trigger.dev's, so that a policy means the same here and there; `RetryPolicy.delay` cites it.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from datetime import timedelta

from triggerapp.errors import BadInput
from workers.errors import AbortRun, CallRefused, JournalMismatch, ValueTooLarge

Errors = tuple[type[BaseException], ...]

_NEVER: Errors = (AbortRun, BadInput, CallRefused, JournalMismatch, ValueTooLarge)
"""The user's own word, and what the same code would meet again: an option, a value or a place that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter; the defaults are Trigger.dev v4's."""

    max_attempts: int = 3
    """Attempts in all, the first one included."""
    factor: float = 2.0
    min_delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(seconds=60)
    jitter: bool = True
    retry_on: Errors = (Exception,)
    dont_retry_on: Errors = ()
    """Wins over `retry_on`."""

    def __post_init__(self) -> None:
        _check_attempts(self.max_attempts)
        _check_factor(self.factor)
        _check_delays(self.min_delay, self.max_delay)
        _check_errors("retry_on", self.retry_on)
        _check_errors("dont_retry_on", self.dont_retry_on)

    def delay(self, attempt: int) -> timedelta | None:
        """The pause after failed attempt number `attempt` (from 1); None if it was the last.

        `min(max, random(1..2) * min * factor ** (attempt - 1))`, as `calculateNextRetryDelay` in
        Trigger.dev v4, packages/core/src/v3/utils/retries.ts.
        """
        if attempt < 1:
            raise BadInput(f"attempts count from 1, not {attempt}")
        if attempt >= self.max_attempts:
            return None
        spread = 1 + random.random() if self.jitter else 1.0
        seconds = spread * self.min_delay.total_seconds() * _power(self.factor, attempt - 1)
        if seconds >= self.max_delay.total_seconds():
            return self.max_delay
        return timedelta(seconds=seconds)

    def wants(self, exc: BaseException) -> bool:
        """Whether `exc` is worth another attempt; an `AbortRun`, or a refusal of a call of ours, never is."""
        return isinstance(exc, self.retry_on) and not isinstance(exc, (*_NEVER, *self.dont_retry_on))


def _power(factor: float, exponent: int) -> float:
    try:
        return float(factor) ** exponent
    except OverflowError:  # attempt 1025 of a policy that retries for days
        return sys.float_info.max


def _check_attempts(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(f"max_attempts must be a whole number from 1 (1 means no retry), not {value!r}")


def _check_factor(value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value >= 1):
        raise BadInput(f"factor must be a number from 1 (1 means a constant delay), not {value!r}")


def _check_delays(low: object, high: object) -> None:
    for name, value in (("min_delay", low), ("max_delay", high)):
        if not isinstance(value, timedelta) or value < timedelta(0):
            raise BadInput(f"{name} must be a timedelta that is not negative, not {value!r}")
    if isinstance(low, timedelta) and isinstance(high, timedelta) and low > high:
        raise BadInput(f"min_delay ({low}) must not exceed max_delay ({high})")


def _check_errors(name: str, value: object) -> None:
    if not (isinstance(value, tuple) and all(map(_is_error, value))):
        raise BadInput(f"{name} must be a tuple of exception classes, not {value!r}")


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
