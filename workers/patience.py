"""Writing over a database that is away for a while.

What is written so must be safe to repeat: a commit may have gone through although its answer did not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from django.db import connection

from triggerapp.engine import sql

T = TypeVar("T")

LONGEST = timedelta(seconds=30)
UNANSWERED = sql.UNANSWERED
"""What a database that does not answer raises."""
_FIRST, _MOST = 0.05, 2.0


def patiently(write: Callable[[], T]) -> T:
    """What `write` returns; try again for `LONGEST` while the database does not answer. Raises its error after that."""
    deadline = time.monotonic() + LONGEST.total_seconds()
    pause = _FIRST
    while True:
        try:
            return write()
        except UNANSWERED:
            if connection.in_atomic_block or time.monotonic() > deadline:
                raise
        connection.close()
        time.sleep(pause)
        pause = min(2 * pause, _MOST)
