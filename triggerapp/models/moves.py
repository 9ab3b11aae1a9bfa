"""The state machine of a run: statuses, the table of allowed moves, and their public names.

A run changes status only by the UPDATE that `move_sql` writes; a test greps for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from django.db.models import TextChoices


class Status(TextChoices):
    """Where a run stands."""

    PENDING = "pending"
    """Accepted; not yet admitted by its queue, or not yet due."""
    QUEUED = "queued"
    """Admitted; a message says "look" to any worker."""
    RUNNING = "running"
    """A worker holds its lease."""
    WAITING = "waiting"
    """Suspended on a wait, with no process anywhere."""
    COMPLETED = "completed"
    """Returned a value."""
    FAILED = "failed"
    """Raised, and no attempts are left."""
    CRASHED = "crashed"
    """Its workers died too often while it ran."""
    TIMED_OUT = "timed_out"
    """Ran longer than its limit."""
    CANCELED = "canceled"
    """Stopped by a person or a program."""
    EXPIRED = "expired"
    """Its time to live ended before it started."""


S = Status
LIVE = (S.PENDING, S.QUEUED, S.RUNNING, S.WAITING)
FINAL = (S.COMPLETED, S.FAILED, S.CRASHED, S.TIMED_OUT, S.CANCELED, S.EXPIRED)

MOVES: Mapping[Status, tuple[Status, ...]] = MappingProxyType(
    {
        S.PENDING: (S.QUEUED, S.RUNNING, S.WAITING, S.FAILED, S.CRASHED, S.TIMED_OUT),
        S.QUEUED: (S.PENDING, S.RUNNING, S.WAITING),
        S.RUNNING: (S.QUEUED, S.WAITING),
        S.WAITING: (S.RUNNING,),
        S.COMPLETED: (S.RUNNING,),
        S.FAILED: (S.RUNNING, S.WAITING),
        S.CRASHED: (S.RUNNING,),
        S.TIMED_OUT: (S.RUNNING,),
        S.CANCELED: LIVE,
        S.EXPIRED: (S.PENDING, S.QUEUED),
    }
)
"""Target status -> the statuses it may be reached from."""


def move_sql(to: Status, assign: str, where: str, *, returning: str = "id") -> str:
    """The one UPDATE that changes a run's status; rows outside the table of moves stay as they are."""
    sources = ", ".join(f"'{status.value}'" for status in MOVES[to])
    return (
        f"UPDATE triggerapp_run SET status = '{to.value}', updated_at = now(){', ' if assign else ''}{assign} "
        f"WHERE status IN ({sources}) AND ({where}) RETURNING {returning}"
    )


def public_name(status: str, *, delayed: bool = True) -> str:
    """Trigger.dev v4's name of a status; `delayed` tells a start at a later time from a queue that has no room."""
    if status == S.PENDING:
        return "DELAYED" if delayed else "QUEUED"
    return _PUBLIC[Status(status)]


class Started(Protocol):
    """A run, however much of it was read."""

    @property
    def status(self) -> str: ...

    @property
    def due_at(self) -> datetime | None: ...

    @property
    def started_at(self) -> datetime | None: ...


def public_status(run: Started) -> str:
    """The public name of a run's status."""
    return public_name(run.status, delayed=run.due_at is not None and run.started_at is None)


_PUBLIC: Mapping[Status, str] = MappingProxyType(
    {
        S.QUEUED: "QUEUED",
        S.RUNNING: "EXECUTING",
        S.WAITING: "WAITING",
        S.COMPLETED: "COMPLETED",
        S.FAILED: "FAILED",
        S.CRASHED: "CRASHED",
        S.TIMED_OUT: "TIMED_OUT",
        S.CANCELED: "CANCELED",
        S.EXPIRED: "EXPIRED",
    }
)
