"""What a run process and its supervisor tell each other, pickled, over their line.

Both are of one worker, and run the same code; a restored process comes out of a sealed image.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import LogRecord
from typing import Any, cast
from uuid import UUID

from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Opening, Resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Run this run."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    request: Mapping[str, Any]
    claimed: Claimed
    level: int
    """From which level on log records are wanted."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A log record."""

    record: LogRecord


@dataclass(frozen=True, slots=True)
class Leaving:
    """The worker shuts down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """The process stands at this wait, and can be dumped."""

    opening: Opening
    open_wait: UUID | None
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """Go on: with how the wait ended, or by leaving the function to be entered again."""

    resolution: Resolution | None = None
    claimed: Claimed | None = None
    """The new claim, for a process that was restored; with it goes what belongs to the new place."""
    request: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The task returned."""

    value: object
    children: Sequence[tuple[Any, ...]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The task raised, or the run has left."""

    error: BaseException
    traceback: str
    children: Sequence[tuple[Any, ...]] = ()


Message = Job | Logged | Leaving | Parked | Woken | Returned | Raised


class RemoteTraceback(Exception):
    """Where an exception was raised in the run process: text, as the cause of the one that came over."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def pack(message: Message) -> bytes:
    """The message in bytes."""
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def unpack(raw: bytes) -> Message:
    """The message that these bytes are."""
    return cast(Message, pickle.loads(raw))
