"""A page of memory that all processes of one worker share: what its pool should know before it begins anything new.

Its ticker writes when it last beat, and which runs were canceled; the main process that it is leaving. The rule:
reading it costs nothing, so it is read before each step; it is a hint, and whoever acts on it asks the database first.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from datetime import timedelta
from typing import Self
from uuid import UUID

_BEAT = struct.Struct("d")
_BEAT_AT = 8
_SLOTS_AT = 64
_SLOTS = 1024
"""Runs share slots: one that is told of another's cancel asks the database once for nothing."""


class Board:
    """The page; with `fd`, that of another process, which passed it on."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = fd
        self._page = mmap.mmap(-1 if fd is None else fd, mmap.PAGESIZE)

    @classmethod
    def to_pass_on(cls) -> Self:
        """A page that not only forked processes can share. Others have no file: one that is open can hinder a dump."""
        fd = os.memfd_create("triggerapp")
        os.ftruncate(fd, mmap.PAGESIZE)
        return cls(fd)

    @classmethod
    def at(cls, path: str) -> Self:
        """The page of another process, by the path of what it has open; here only the mapping stays."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            board = cls(fd)
            board.fd = None
        finally:
            os.close(fd)
        return board

    @property
    def leaving(self) -> bool:
        """Whether the worker is shutting down."""
        return self._page[0] == 1

    def leave(self) -> None:
        """Have the pool's runs stop at their next step or wait."""
        self._page[0] = 1

    def beat(self, at: float) -> None:
        """The worker's lease was renewed, no earlier than `at`."""
        _BEAT.pack_into(self._page, _BEAT_AT, at)

    def is_overdue(self, lease: timedelta) -> bool:
        """Whether the lease may have run out; a worker that never beat has no ticker, and no lease."""
        (at,) = _BEAT.unpack_from(self._page, _BEAT_AT)
        return bool(at) and time.monotonic() - at > lease.total_seconds()

    def tell(self, run_id: UUID) -> None:
        """There is news of this run."""
        slot = _slot(run_id)
        self._page[slot] = (self._page[slot] + 1) % 256

    def slots(self) -> bytes:
        """The news of all runs, to compare with later."""
        return self._page[:]


class Watch:
    """What one attempt has read of the board. Made before the run is claimed, so that nothing falls in between."""

    def __init__(self, board: Board, *, lease: timedelta, seen: bytes | None = None) -> None:
        self._board = board
        self._lease = lease
        self._read = board.slots() if seen is None else seen
        self._told = False

    @property
    def seen(self) -> bytes:
        """What was read last, for another process to go on from."""
        return self._read

    def move_to(self, board: Board, seen: bytes | None = None) -> None:
        """Read another board from now on; with `seen` as the watch of another attempt, which has been told nothing."""
        self._board = board
        if seen is not None:
            self._read, self._told = seen, False

    def has_news(self, run_id: UUID) -> bool:
        """Whether the run may be ours no more: it was canceled, or the worker's lease ran out. True until `heard`."""
        slot, now = _slot(run_id), self._board.slots()
        self._told = self._told or now[slot] != self._read[slot]
        self._read = now
        return self._told or self._board.is_overdue(self._lease)

    def heard(self) -> None:
        """The database has said what the news was; only then it is news no more."""
        self._told = False


def _slot(run_id: UUID) -> int:
    return _SLOTS_AT + run_id.int % _SLOTS
