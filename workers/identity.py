"""Which worker this process belongs to.

Set in the worker's main process before its pool is forked, and inherited; the flag that says the
worker is leaving is a shared byte, so that every pool process sees it.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from uuid import UUID, uuid4

NOBODY = UUID(int=0)
"""Holder of runs that no worker has: eager ones. It has no heartbeat, and is never declared dead."""


class _Identity:
    def __init__(self) -> None:
        self.worker = uuid4()
        self.leaving = mmap.mmap(-1, 1)
        self.home: Path | None = None


_mine = _Identity()


def worker() -> UUID:
    """The id of this worker; its heartbeat keeps the leases of its runs alive."""
    return _mine.worker


def renew() -> UUID:
    """Be a new worker (one started in a process that had one before)."""
    global _mine
    _mine = _Identity()
    return _mine.worker


def leave() -> None:
    """Have the runs of this worker's pool stop at their next step or wait."""
    _mine.leaving[0] = 1


def is_leaving() -> bool:
    """Whether this worker is shutting down."""
    return _mine.leaving[0] == 1


def settle(home: Path | None) -> None:
    """Have a folder of this worker's own, with its zygote's address; its pool starts run processes from there."""
    _mine.home = home


def home() -> Path | None:
    """The worker's own folder; None if it starts no run processes."""
    return _mine.home
