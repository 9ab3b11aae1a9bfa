"""The ways to stop at a wait. All of them write the same journal.

`ByReentry` leaves the function and gives the slot back; on wake the function is entered again and
the journal answers. `Inline` keeps the process: eager runs have nobody to wake them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from triggerapp.engine import runs, sql, waits, wakes
from triggerapp.engine.waits import Opening, Resolution, Suspended
from triggerapp.models import WaitKind, WaitStatus
from workers import timers
from workers.errors import Suspend, WaitInRollback, WaitInTransaction
from workers.patience import patiently

if TYPE_CHECKING:
    from workers.attempt import Attempt

_POLL = 0.02


class SuspendNow(Suspend):
    """Leaves the function at a wait; the run waits in the database."""

    def __init__(self, wait: UUID, description: str) -> None:
        super().__init__(wait, description)
        self.wait = wait
        self.description = description


class ReleaseNow(Suspend):
    """Leaves the function between two steps: this worker is shutting down, another one goes on."""


class StopNow(Suspend):
    """Leaves the function of a run that is another worker's by now, or canceled: nothing it did would be written.

    What the engine raises, `StaleRun`, is an ordinary error for its other callers; the user's code meets this one,
    which no `except Exception` around a step or wait swallows.
    """


class Suspension(Protocol):
    """One way to stop at a wait."""

    def wait(self, attempt: Attempt, opening: Opening, *, open_wait: UUID | None) -> Resolution:
        """Return how the wait ended, now or after as long as it takes; or leave the function."""

    def check(self) -> None:
        """Called before anything new is begun; may leave the function."""


class ByReentry:
    """Raise `SuspendNow`: the function is entered again on wake."""

    def __init__(self, *, leaving: Callable[[], bool], announce: Callable[[str], None]) -> None:
        self._leaving = leaving
        self._announce = announce

    def check(self) -> None:
        """Leave the function if its worker is shutting down."""
        if self._leaving():
            raise ReleaseNow

    def wait(self, attempt: Attempt, opening: Opening, *, open_wait: UUID | None) -> Resolution:
        """Open the wait, and leave unless it is resolved already."""
        refuse_in_transaction(opening.key)
        # Before the commit: after it, the woken run may be faster than this word about its waiting.
        self._announce(describe(opening))
        entered = enter(attempt, opening, open_wait)
        if isinstance(entered, Resolution):
            self._announce("")
            return entered
        attempt.left_at = opening.key
        raise SuspendNow(entered.wait, describe(opening))


class Inline:
    """Keep the process and look until the wait is resolved. Deadlines are slept out for real."""

    def check(self) -> None:
        """Nothing ends an eager run early."""

    def wait(self, attempt: Attempt, opening: Opening, *, open_wait: UUID | None) -> Resolution:
        """Open the wait and poll it."""
        entered = enter(attempt, opening, open_wait)
        if isinstance(entered, Resolution):
            return entered
        if opening.kind == WaitKind.TIMER and not timers.real.get():
            waits.resolve(entered.wait, None, by="skip_timers")
        resolution = _poll(entered.wait)
        with attempt.while_held(opening.key):
            runs.stay(attempt.run_id, lease=attempt.lease)
        return resolution


class WhileUndoing:
    """Rollbacks neither wait nor leave: what has begun to be undone is undone."""

    def check(self) -> None:
        """A shutdown waits for rollbacks."""

    def wait(self, attempt: Attempt, opening: Opening, *, open_wait: UUID | None) -> Resolution:
        """Refuse."""
        raise WaitInRollback(f"the wait {opening.key}")


def enter(attempt: Attempt, opening: Opening, open_wait: UUID | None) -> Resolution | Suspended:
    """Enter a new wait, or one that was open when the run was taken over."""
    tries = count()

    def once() -> Resolution | Suspended:
        known = open_wait or (opening.wait if next(tries) and waits.exists(opening.wait) else None)
        if known is None:
            return waits.suspend(attempt.run_id, opening, lease=attempt.lease)
        return waits.suspend_again(attempt.run_id, known, lease=attempt.lease)

    with attempt.while_held(opening.key):  # if it is not, that may be our own suspension, whose answer was lost
        return patiently(once)


def _poll(wait: UUID) -> Resolution:
    while True:
        wakes.expire_one(wait)
        row = sql.row("SELECT status, value, event FROM triggerapp_wait WHERE id = %s", [wait])
        if row is None or row["status"] != WaitStatus.PENDING:
            break
        time.sleep(_POLL)
    if row is None:
        return Resolution(status=WaitStatus.CANCELED, wait=wait)
    return Resolution(status=row["status"], value=row["value"], event=row["event"], wait=wait)


def refuse_in_transaction(key: str) -> None:
    """Raise `WaitInTransaction` inside of `atomic()`: what it has done would be lost, or done twice."""
    if is_in_transaction():
        raise WaitInTransaction(f"the wait {key}")


def is_in_transaction() -> bool:
    """Whether the calling thread is inside of `atomic()`, or of a transaction by hand."""
    return bool(sql.in_transaction())


def describe(opening: Opening) -> str:
    """For people: what the run waits for, and until when."""
    what = f"{opening.kind} {opening.name or opening.key}"
    return f"suspended: {what}" if opening.deadline is None else f"suspended: {what}, at most {opening.deadline}"
