"""What may become of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from triggerapp.engine.dispatch import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The function was left on purpose; Celery is told `signal`."""

    signal: Exception
    release: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRetry:
    """What `self.retry` asked for."""

    message: Message
    delay: timedelta


Outcome = Completed | Failed | Left
