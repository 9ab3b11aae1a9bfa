"""What may become of an attempt."""

from __future__ import annotations

from dataclasses import dataclass


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


Outcome = Completed | Failed | Left
