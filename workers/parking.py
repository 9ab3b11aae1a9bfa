"""Waiting by checkpoint: the process stands still at the wait, is dumped there, and goes on from there.

Nothing is left: the function does not notice that it was away. What cannot be dumped leaves by re-entry, and the
attempt says why.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from celery import Celery

from checkpoint import Refused, require_dumpable
from triggerapp import conf
from triggerapp.engine import checkpoints, waits
from triggerapp.engine.waits import Opening, Resolution
from triggerapp.failpoints import point
from triggerapp.models import WaitKind
from workers import context, identity, loops, resources
from workers.messages import Parked, Woken
from workers.patience import UNANSWERED, patiently
from workers.suspension import ByReentry, ReleaseNow, describe, is_in_transaction, refuse_in_transaction

if TYPE_CHECKING:
    from workers.attempt import Attempt
    from workers.runprocess import RunProcess

log = logging.getLogger(__name__)

_TRIES = 2
"""How often a process that has to move out is tried before its run leaves by re-entry."""


class ByCheckpoint:
    """Stand still at the wait; how it ended is what the process is woken with."""

    def __init__(self, process: RunProcess, *, app: Celery, announce: Callable[[str], None]) -> None:
        self._process = process
        self._app = app
        self._announce = announce
        self._by_reentry = ByReentry(leaving=identity.is_leaving, announce=announce)
        self._refusals = 0

    def check(self) -> None:
        """Move out if the worker is shutting down; leave the function if that cannot be."""
        if identity.is_leaving() and not self.move():
            raise ReleaseNow

    def wait(self, attempt: Attempt, opening: Opening, *, open_wait: UUID | None) -> Resolution:
        """Stand still until the wait is resolved; leave the function if the process cannot be dumped."""
        refuse_in_transaction(opening.key)
        if open_wait is None and _is_short(opening):
            return _sit_out(attempt, opening)
        self._announce(describe(opening))
        woken = self._stand(attempt, Parked(opening=opening, open_wait=open_wait, description=describe(opening)))
        if woken is None or woken.resolution is None:
            return self._by_reentry.wait(attempt, opening, open_wait=open_wait)
        if woken.moved is None:
            self._announce("")
        return woken.resolution

    def move(self) -> bool:
        """Stand still in the middle of the work, to go on in another worker; False if that cannot be."""
        attempt = context.the_only_one()
        if attempt is None or self._refusals >= _TRIES or is_in_transaction():
            return False
        woken = self._stand(attempt, Parked(opening=None, description="moved: its worker is shutting down"))
        if woken is not None and woken.moved is not None:
            self._refusals = 0
            return True
        self._refusals += 1
        return False

    def _stand(self, attempt: Attempt, parked: Parked) -> Woken | None:
        """What the process was woken with; None if it cannot be dumped."""
        with self._process.undisturbed(), loops.outside():
            return self._stand_still(attempt, parked)

    def _stand_still(self, attempt: Attempt, parked: Parked) -> Woken | None:
        point("park.before")
        try:
            resources.close_registered()
        except resources.NotClosed as problem:
            _note(attempt, f"not dumped at {parked.at}: {problem}")
            return None
        resources.close_everything(self._app)
        gc.collect()
        try:
            require_dumpable(os.getpid(), external=[self._process.line.inode()])
            woken = self._process.park(parked)
        except Refused as refused:
            resources.reopen_registered()
            _note(attempt, f"not dumped at {parked.at}: {refused}")
            return None
        if woken.moved is not None:
            attempt.take_over(woken.moved.claimed)
        resources.reopen_registered()
        point("park.after")
        return woken


def _is_short(opening: Opening) -> bool:
    return (
        opening.kind == WaitKind.TIMER
        and isinstance(opening.deadline, timedelta)
        and opening.deadline < conf.get().CHECKPOINT_MIN_WAIT
    )


def _sit_out(attempt: Attempt, opening: Opening) -> Resolution:
    assert isinstance(opening.deadline, timedelta)
    time.sleep(opening.deadline.total_seconds())
    return patiently(lambda: waits.sat_out(attempt.run_id, opening, lease=attempt.lease))


def _note(attempt: Attempt, text: str) -> None:
    """Write it on the attempt. That this cannot be written is nothing to raise in the task's function."""
    log.warning("run %s: %s", attempt.run_id, text)
    with suppress(*UNANSWERED):
        patiently(lambda: checkpoints.note(attempt.run_id, text, lease=attempt.lease))
