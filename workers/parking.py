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
from workers import resources
from workers.messages import Parked
from workers.patience import patiently
from workers.suspension import ByReentry, ReleaseNow, describe, refuse_in_transaction

if TYPE_CHECKING:
    from workers.attempt import Attempt
    from workers.runprocess import RunProcess

log = logging.getLogger(__name__)


class ByCheckpoint:
    """Stand still at the wait; how it ended is what the process is woken with."""

    def __init__(self, process: RunProcess, *, app: Celery, announce: Callable[[str], None]) -> None:
        self._process = process
        self._app = app
        self._announce = announce
        self._by_reentry = ByReentry(leaving=process.must_leave, announce=announce)

    def check(self) -> None:
        """Leave the function if its worker is shutting down."""
        if self._process.must_leave():
            raise ReleaseNow

    def wait(self, attempt: Attempt, opening: Opening, *, open_wait: UUID | None) -> Resolution:
        """Stand still until the wait is resolved; leave the function if the process cannot be dumped."""
        refuse_in_transaction(opening.key)
        if open_wait is None and _is_short(opening):
            return _sit_out(attempt, opening)
        self._announce(describe(opening))
        resolution = self._stand(attempt, opening, open_wait)
        if resolution is None:
            return self._by_reentry.wait(attempt, opening, open_wait=open_wait)
        return resolution

    def _stand(self, attempt: Attempt, opening: Opening, open_wait: UUID | None) -> Resolution | None:
        """How the wait ended; None if the process was not dumped."""
        point("park.before")
        resources.close_registered()
        resources.close_everything(self._app)
        gc.collect()
        try:
            require_dumpable(os.getpid(), external=[self._process.line.inode()])
            woken = self._process.park(Parked(opening=opening, open_wait=open_wait, description=describe(opening)))
        except Refused as refused:
            resources.reopen_registered()
            _note(attempt, f"not dumped at {opening.key}: {refused}")
            return None
        if woken.claimed is not None:
            attempt.take_over(woken.claimed)
        resources.reopen_registered()
        point("park.after")
        if woken.resolution is not None and woken.claimed is None:
            self._announce("")
        return woken.resolution


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
    log.warning("run %s: %s", attempt.run_id, text)
    checkpoints.note(attempt.run_id, text, lease=attempt.lease)
