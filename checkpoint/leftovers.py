"""What a supervisor leaves behind that is killed in the middle of a dump or a restore, and how somebody else ends it.

CRIU dies with its supervisor, but it has children that do not: processes in which it tries what the kernel can do, some
of them stopped, and tasks half restored, which wait for it for ever. So each call is on record in its folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from checkpoint import images, processes
from checkpoint.processes import Task

_RECORD: Final = "at-work"


@contextmanager
def recorded(folder: Path, criu: Task) -> Iterator[None]:
    """Within the block it is on record that this process has this CRIU at work on `folder`."""
    record = folder / _RECORD
    me = processes.look(os.getpid())
    assert me is not None, "this process runs"
    with suppress(OSError):  # a full disk: CRIU will say so in its own words
        record.write_text(f"{me.pid} {me.started} {criu.pid} {criu.started}")
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def is_recorded(folder: Path) -> bool:
    """Whether a CRIU is on record as at work there, be its supervisor gone or not."""
    return (folder / _RECORD).exists()


def of(criu: Task, pids: Iterable[int] = ()) -> list[Task]:
    """This CRIU, its helpers, and what it has made of `pids` until now; it may be gone itself.

    A restored task counts only if it is of our own line: the same image may be being restored by somebody else. One
    whose parent was killed has gone up that line.
    """
    parents = {criu.pid, *_line()}
    wanted = set(pids)
    made = [
        t.pid for t in processes.everyone() if t.pid in wanted and t.started >= criu.started and t.parent in parents
    ]
    return list({task.pid: task for task in (*processes.household(criu), *processes.family(made))}.values())


def end_abandoned(scratch: Path, folders: str = "*", *, trusted: bool = False) -> int:
    """End what was left in those of these folders whose supervisor is gone, and delete them; how many there were.

    Only what this user has left, unless the folders are `trusted`: closed to those who could put a record there.
    """
    ended = 0
    for record in scratch.glob(f"{folders}/{_RECORD}"):
        with suppress(OSError, ValueError):  # written or ended by somebody else just now
            ended += (trusted or _is_own(record)) and _end(record)
    return ended


def _end(record: Path) -> bool:
    owner, owner_started, criu, started = map(int, record.read_text().split())
    if _is_alive(owner, owner_started):
        return False
    pids: list[int] = []
    with suppress(OSError, ValueError):  # of a dump that was cut off
        pids = images.pids(record.parent)
    processes.kill(lambda: of(Task(criu, started, 0, ""), pids))
    shutil.rmtree(record.parent, ignore_errors=True)
    return True


def _is_own(record: Path) -> bool:
    return record.lstat().st_uid == os.geteuid() and not record.is_symlink()


def _is_alive(pid: int, started: int) -> bool:
    now = processes.look(pid)
    return now is not None and now.started == started and now.state not in "ZX"


def _line() -> set[int]:
    """This process and those above it."""
    line = {1}
    task = processes.look(os.getpid())
    while task is not None and task.pid not in line:
        line.add(task.pid)
        task = processes.look(task.parent)
    return line
