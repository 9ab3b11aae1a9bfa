"""The driver: freezes a process into a directory of images and thaws it from there.

Every call has a limit in time, and none leaves anything behind: a process that could not be dumped goes on, and of one
that could not be restored nothing lives.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Final

from checkpoint import criulog, images, leftovers, processes, rpc
from checkpoint.binary import Binary
from checkpoint.errors import DumpFailed, RestoreFailed
from checkpoint.processes import Task
from checkpoint.protobuf import Value
from checkpoint.rpc import Answer, Gone, Kind, Option, Worker

PID_IN_USE: Final = "is in use by another process"
"""In the reason of a restore that failed because a process has the pid: one comes back under its own, or not here."""

PATIENCE: Final = timedelta(seconds=30)
"""A dump takes some hundredths of a second, on a busy machine some seconds; what takes longer hangs."""

_DUMP_LOG: Final = "dump.log"
_RESTORE_LOG: Final = "restore.log"
_GHOSTS: Final = 100 << 20
"""Deleted open files up to this size travel in the image; CRIU's own limit is 1 MB."""
_ERRORS_ONLY: Final = 1
_CGROUPS_IGNORE: Final = 0


class Mode(Enum):
    """With which rights CRIU works."""

    PRIVILEGED = "privileged"
    """Root, and all it wants: restored processes get a time namespace, so their monotonic clock stands still."""
    UNPRIVILEGED = "unprivileged"
    """Another user's, or CAP_CHECKPOINT_RESTORE alone: the monotonic clock jumps."""
    HELPED = "through the helper"
    """None: a helper has them (`checkpoint.helper`). The clock jumps too; only what it dumped is restored by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criu:
    """One CRIU, used with these rights."""

    binary: Binary
    mode: Mode

    @property
    def version(self) -> tuple[int, ...]:
        return self.binary.version

    @property
    def place(self) -> Path:
        return self.binary.path

    def prepare(self, passing: Iterable[int] = ()) -> Worker:
        """A worker to hand to the next call; for a restore with the descriptors it will give away."""
        return Worker(self.binary.path, passing=passing)

    def dump(
        self,
        pid: int,
        directory: Path,
        *,
        external: Iterable[int] = (),
        leave_stopped: bool = True,
        timeout: timedelta = PATIENCE,
        worker: Worker | None = None,
    ) -> None:
        """Write the process and its children to `directory`; it stays stopped, or goes on if `leave_stopped` is off.

        `external` are the inodes of sockets whose other end is outside. DumpFailed: the process goes on.
        """
        options = [*self._both(directory, _DUMP_LOG), (Option.PID, pid), (Option.TIMEOUT, _seconds(timeout))]
        options += [(Option.EXTERNAL, f"unix[{inode}]") for inode in external]
        options.append((Option.LEAVE_STOPPED if leave_stopped else Option.LEAVE_RUNNING, True))
        with worker or self.prepare() as ready, leftovers.recorded(directory, ready.task), ExitStack() as failing:
            failing.callback(processes.thaw, pid)
            failing.callback(processes.kill, lambda: leftovers.of(ready.task))
            outcome = _ask(ready, Kind.DUMP, options, timeout=timeout)
            if isinstance(outcome, Answer) and outcome.success:
                failing.pop_all()
                return
        raise DumpFailed(f"process {pid} was not dumped: {_reason(outcome)}", _log(directory / _DUMP_LOG, outcome))

    def restore(
        self,
        directory: Path,
        *,
        inherit: Mapping[str, int] | None = None,
        timeout: timedelta = PATIENCE,
        worker: Worker | None = None,
    ) -> int:
        """Thaw what is in `directory` as a child of this process; its pid.

        `inherit` gives new descriptors for what was external: CRIU's name of the old to our new one. Whoever prepares
        `worker` passes the latter on. RestoreFailed: nothing of it is left.
        """
        inherit = inherit or {}
        pids = _pids_in(directory)
        options = [*self._both(directory, _RESTORE_LOG), (Option.RST_SIBLING, True), *rpc.inherited(inherit)]
        left: list[Task] = []
        with (
            _reserved(pids),
            worker or self.prepare(inherit.values()) as ready,
            leftovers.recorded(directory, ready.task),
            ExitStack() as failing,
        ):
            failing.callback(lambda: left.extend(processes.kill(lambda: leftovers.of(ready.task, pids))))
            outcome = _ask(ready, Kind.RESTORE, options, timeout=timeout)
            if isinstance(outcome, Answer) and outcome.success:
                failing.pop_all()
                return outcome.pid
        stuck = f" (process {left[0].pid} cannot be killed)" if left else ""
        log = _log(directory / _RESTORE_LOG, outcome)
        raise RestoreFailed(f"the image was not restored: {_reason(outcome)}{criulog.explained(log)}{stuck}", log)

    def _both(self, directory: Path, log: str) -> list[tuple[Option, Value]]:
        return [
            (Option.IMAGES_DIR_FD, -1),
            (Option.IMAGES_DIR, str(directory.absolute())),
            (Option.LOG_LEVEL, _ERRORS_ONLY),
            (Option.LOG_FILE, log),
            (Option.TCP_CLOSE, True),
            (Option.EXT_UNIX_SK, True),
            (Option.FILE_LOCKS, True),
            (Option.LINK_REMAP, True),
            (Option.GHOST_LIMIT, _GHOSTS),
            (Option.MANAGE_CGROUPS_MODE, _CGROUPS_IGNORE),
            (Option.UNPRIVILEGED, self.mode is Mode.UNPRIVILEGED),
        ]


def _pids_in(directory: Path) -> list[int]:
    try:
        return images.pids(directory)
    except (OSError, ValueError) as problem:
        raise RestoreFailed(f"{directory} holds no image: {problem}") from problem


def _ask(
    worker: Worker, kind: Kind, options: Iterable[tuple[Option, Value]], *, timeout: timedelta
) -> Answer | TimeoutError | Gone:
    try:
        return worker.request(kind, options, timeout=timeout)
    except TimeoutError:
        return TimeoutError(f"CRIU took more than {timeout.total_seconds():g} s and was killed")
    except Gone as gone:
        return gone


def _reason(outcome: Answer | TimeoutError | Gone) -> str:
    if not isinstance(outcome, Answer):
        return str(outcome)
    if outcome.errno == errno.EBADRQC:  # its answer where it lacks the rights, before there is a log
        return "CRIU does not take the request, mostly for lack of rights"
    return os.strerror(outcome.errno) if outcome.errno else "CRIU refused"


def _log(path: Path, outcome: Answer | TimeoutError | Gone) -> tuple[str, ...]:
    return criulog.tail(path, answer=outcome.message if isinstance(outcome, Answer) else "")


def _seconds(timeout: timedelta) -> int:
    return max(1, math.ceil(timeout.total_seconds()))


@contextmanager
def _reserved(pids: Iterable[int]) -> Iterator[None]:
    """Restore these in one thread of this process at a time.

    What is half restored is told by its pid and its line of parents, which is the same for all threads of a process:
    one that fails would kill what another has just restored.
    """
    wanted = set(pids)
    with _lock:
        taken = sorted(wanted & _being_restored)
        if taken:
            raise RestoreFailed(f"pid {taken[0]} is being restored by this process already")
        _being_restored.update(wanted)
    try:
        _require_free(wanted)
        yield
    finally:
        with _lock:
            _being_restored.difference_update(wanted)


_lock: Final = Lock()
_being_restored: Final[set[int]] = set()


def _require_free(pids: Iterable[int]) -> None:
    for pid in pids:
        there = processes.look(pid)
        if there is None:
            continue
        ours = "is in use by the dumped process itself, ended but not waited for"
        raise RestoreFailed(
            f"pid {pid} {ours if there.state == 'Z' else PID_IN_USE}: restore elsewhere, or once it is gone"
        )
