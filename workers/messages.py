"""What a run process and its supervisor tell each other, pickled, over their line.

Both are of one worker, and run the same code; a restored process comes out of a sealed image.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import LogRecord
from typing import Any, cast
from uuid import UUID

from triggerapp.engine.logs import Line
from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Opening, Resolution

SOFT_LIMIT = signal.SIGUSR1
"""Celery's own number for it, in pool processes."""
MOVE_OUT = signal.SIGUSR2
"""The worker is leaving: stand still wherever that can be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The worker that a process belongs to."""

    board: str
    """Where its board is."""
    seen: bytes
    """What was read of it before the run was claimed."""
    level: int
    """From which level on log records are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Run this run."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    request: Mapping[str, Any]
    claimed: Claimed
    place: Place


@dataclass(frozen=True, slots=True)
class Logged:
    """A log record."""

    record: LogRecord


@dataclass(frozen=True, slots=True)
class Said:
    """A line to be kept of the run; None: write now what there is."""

    line: Line | None


@dataclass(frozen=True, slots=True)
class Begun:
    """The job has begun; from now on the process may be signaled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """The process stands at this wait, or in the middle of its work, and can be dumped."""

    opening: Opening | None
    open_wait: UUID | None = None
    description: str

    @property
    def at(self) -> str:
        """For people: where it stands."""
        return "its work" if self.opening is None else self.opening.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a restored process must know of where it is now."""

    claimed: Claimed
    place: Place
    request: Mapping[str, Any]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """Go on: with how the wait ended; without, by leaving the function to be entered again."""

    resolution: Resolution | None = None
    moved: Moved | None = None
    """For a process that was restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The task returned."""

    value: object
    children: Sequence[tuple[Any, ...]] = ()
    is_as_new: bool = True
    """The process is fit for another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The task raised, or the run has left."""

    error: BaseException
    traceback: str
    children: Sequence[tuple[Any, ...]] = ()
    is_as_new: bool = True


Message = Job | Begun | Logged | Said | Parked | Woken | Returned | Raised


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
