"""Rollbacks: what undoes what a run has done, newest first, once each.

A rollback is a step that undoes a step. It is recorded like one, so that a run whose worker dies
while it rolls back goes on with the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workers import interrupts, journal
from workers.errors import RollbackInStep
from workers.retry import RetryPolicy

log = logging.getLogger(__name__)

POLICY = RetryPolicy(min_delay=timedelta(milliseconds=200), max_delay=timedelta(seconds=2))
"""A rollback is tried again without leaving the worker: nothing is left to give the slot to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """How to undo one thing."""

    key: str
    undoes: str | None
    """The step that it undoes; None for what `rollback()` registered."""
    call: Callable[[], object]
    digest: str


Record = Callable[[Rollback, float, BaseException | None], None]
BeginAgain = Callable[[str, BaseException], None]


class Rollbacks:
    """The rollbacks of a run, in the order in which they were registered."""

    def __init__(self) -> None:
        self._registered: dict[str, Rollback] = {}

    def register(self, rollback: Rollback) -> None:
        """Have it called if the run fails; one that was registered before is the newest now."""
        self._registered.pop(rollback.key, None)
        self._registered[rollback.key] = rollback

    @property
    def of_no_step(self) -> int:
        """How many there are that `rollback()` registered."""
        return sum(rollback.undoes is None for rollback in self._registered.values())

    def are_all(self, *, steps: Set[str], others: int) -> bool:
        """Whether those of these steps, and so many others, are registered by now."""
        return steps <= {rollback.undoes for rollback in self._registered.values()} and self.of_no_step >= others

    def __bool__(self) -> bool:
        return bool(self._registered)

    def run(self, *, done: Callable[[str], bool], record: Record, begin_again: BeginAgain) -> None:
        """Run those that are not `done`, newest first, and `record` each."""
        for rollback in [*reversed(self._registered.values())]:
            if not done(rollback.key):
                _undo(rollback, record, begin_again)

    def note_left(self, error: dict[str, Any], *, recorded: Mapping[str, journal.Recorded], undoable: Set[str]) -> None:
        """Note in the run's error what is not undone: rollbacks that failed, and steps that none is registered for."""
        newest_first = reversed(self._registered)
        if failed := [key for key in newest_first if key in recorded and recorded[key].error is not None]:
            error["rollbacks_failed"] = failed
        if left := sorted(undoable - {rollback.undoes for rollback in self._registered.values()}):
            log.warning("not undone, since this attempt registered no rollback for it: %s", ", ".join(left))
            error["not_undone"] = left


def _undo(rollback: Rollback, record: Record, begin_again: BeginAgain) -> None:
    """Call it until it succeeds or its tries are used up."""
    for number in range(1, POLICY.max_attempts + 1):
        started = time.monotonic()
        try:
            with journal.inside(rollback.key):
                rollback.call()
        except BaseException as error:
            if interrupts.is_one(error):
                raise
            pause = POLICY.delay(number)
            if pause is None:
                log.exception("rollback %s failed", rollback.key)
                record(rollback, started, error)
                return
            begin_again(rollback.key, error)
            time.sleep(pause.total_seconds())
        else:
            record(rollback, started, None)
            return


def refuse_in_step(what: str) -> None:
    """Raise `RollbackInStep` inside of a step: once that is recorded, what it registered would be forgotten."""
    if journal.in_step():
        raise RollbackInStep(what)
