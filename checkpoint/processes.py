"""Looking at processes through /proc, and ending whole families of them.

A pid alone names nobody for long: a `Task` is a pid with its start time, and is only signaled while both are true.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_PR_SET_PDEATHSIG: Final = 1
_prctl: Final = ctypes.CDLL(None).prctl
_PAUSE: Final = 0.001
_REAPER: Final = 1.0
_let_go: Final = set[int]()


@dataclass(frozen=True, slots=True)
class Task:
    """One process, told apart from a later one of the same pid by its start time in clock ticks."""

    pid: int
    started: int
    parent: int
    state: str
    session: int = 0

    def alive(self) -> bool:
        """Whether it still runs or can run; a zombie does not."""
        now = look(self.pid)
        return now is not None and now.started == self.started and now.state not in "ZX"

    def exists(self) -> bool:
        """Whether it holds its pid, be it as a zombie."""
        now = look(self.pid)
        return now is not None and now.started == self.started

    def send(self, number: signal.Signals) -> None:
        """Signal it if it is still the same process."""
        if self.alive():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


def look(pid: int) -> Task | None:
    """The process of this pid, or None."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold anything
    return Task(pid, int(fields[19]), int(fields[1]), fields[0].decode(), int(fields[3]))


def everyone() -> Iterator[Task]:
    """All processes that can be seen."""
    for name in os.listdir(_PROC):
        task = look(int(name)) if name.isdigit() else None
        if task is not None:
            yield task


def family(pids: Iterable[int]) -> list[Task]:
    """These processes and all their descendants, parents first."""
    found: dict[int, Task] = {}
    waiting = list(pids)
    while waiting:
        pid = waiting.pop(0)
        task = look(pid) if pid not in found else None
        if task is not None:
            found[pid] = task
            waiting += _children(pid)
    return list(found.values())


def household(leader: Task) -> list[Task]:
    """The leader of a session, all that is left of the session, and their descendants; the leader may be gone."""
    now = look(leader.pid)
    if now is not None and now.started != leader.started:
        return []  # a pid is free again only once its session is empty
    return family([leader.pid, *(task.pid for task in everyone() if task.session == leader.pid)])


def end(find: Callable[[], list[Task]], *, patience: timedelta = timedelta(seconds=10)) -> list[Task]:
    """Kill all that `find` finds, now and after more of them were made; who is left after `patience`.

    Our own children are waited for. For others somebody else does that, soon: their pids are free when this returns.
    """
    deadline = time.monotonic() + patience.total_seconds()
    known = _stop(find, deadline)
    while (alive := _kill(known)) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return alive


def kill(find: Callable[[], list[Task]], *, patience: timedelta = timedelta(seconds=10)) -> list[Task]:
    """The same for those whom `find` finds without their parents too: none is stopped first.

    So that none stays stopped for ever if this process itself is killed in the middle of it.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        alive = _kill(find())
        if not alive and not any(task.alive() for task in find()):
            return []
        if time.monotonic() > deadline:
            return alive
        time.sleep(_PAUSE)


def let_go(pid: int) -> None:
    """Have a process that ends by itself waited for, if it is our child: when the next one is let go, if not now."""
    _let_go.add(pid)
    for each in tuple(_let_go):
        with suppress(ChildProcessError):
            if os.waitpid(each, os.WNOHANG) == (0, 0):
                continue
        _let_go.discard(each)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that made it ends; for a child, first of all."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def live_on() -> None:
    """Let this process outlive the one that made it."""
    _prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def thaw(pid: int) -> None:
    """Let a stopped process and its descendants go on."""
    for task in reversed(family([pid])):
        task.send(signal.SIGCONT)


def _stop(find: Callable[[], list[Task]], deadline: float) -> list[Task]:
    """Stop them all. Killed while running, one could fork a child that nobody would find any more.

    Only two looks in a row that show the same tasks, all stopped, prove that none was born in between.
    """
    before: list[Task] = []
    while True:
        tasks = find()
        running = [task for task in tasks if task.state not in "TtZX"]
        if (not running and tasks == before) or time.monotonic() > deadline:
            return tasks
        before = [] if running else tasks
        for task in running:
            task.send(signal.SIGSTOP)
        if running:
            time.sleep(_PAUSE)


def _children(pid: int) -> list[int]:
    """Its children; kernels that CRIU works on keep this list."""
    pids: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(_PROC / str(pid) / "task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                pids += map(int, (_PROC / str(pid) / "task" / thread / "children").read_text().split())
    return pids


def _kill(tasks: list[Task]) -> list[Task]:
    """Who of them lives on, now. Of the others the pids are free."""
    for task in tasks:
        task.send(signal.SIGKILL)
        _reap(task)
    alive = [task for task in tasks if task.alive()]
    if not alive:
        _await_reaper(tasks)
    return alive


def _reap(task: Task) -> None:
    with suppress(ChildProcessError):
        os.waitpid(task.pid, os.WNOHANG)


def _await_reaper(tasks: list[Task]) -> None:
    """Give others a moment, the reaper of orphans and the helper; a container's first process may never do it."""
    deadline = time.monotonic() + _REAPER
    while any(task.exists() for task in tasks) and time.monotonic() < deadline:
        for task in tasks:
            _reap(task)
        time.sleep(_PAUSE)
