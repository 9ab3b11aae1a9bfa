"""Which worker this process belongs to.

Set in the worker's main process before its pool is forked, and inherited; what changes later is on
the board, shared memory that every pool process sees.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from workers.board import Board

NOBODY = UUID(int=0)
"""Holder of runs that no worker has: eager ones. It has no heartbeat, and is never declared dead."""


class _Identity:
    def __init__(self) -> None:
        self.worker = uuid4()
        self.board = Board()
        self.home: Path | None = None


_mine = _Identity()


def worker() -> UUID:
    """The id of this worker; its heartbeat keeps the leases of its runs alive."""
    return _mine.worker


def board() -> Board:
    """What this worker's processes share."""
    return _mine.board


def renew() -> UUID:
    """Be a new worker (one started in a process that had one before)."""
    global _mine
    _mine = _Identity()
    _mine.board = Board.to_pass_on()
    return _mine.worker


def join(worker: UUID, board: int) -> None:
    """Be a process of this worker, with the board of this file descriptor."""
    _mine.worker, _mine.board = worker, Board(board)


def look_at(board: Board) -> None:
    """Have another board."""
    _mine.board = board


def leave() -> None:
    """Have the runs of this worker's pool stop at their next step or wait."""
    _mine.board.leave()


def is_leaving() -> bool:
    """Whether this worker is shutting down."""
    return _mine.board.leaving


def settle(home: Path | None) -> None:
    """Have a folder of this worker's own, with its zygote's address; its pool starts run processes from there."""
    _mine.home = home


def home() -> Path | None:
    """The worker's own folder; None if it starts no run processes."""
    return _mine.home
