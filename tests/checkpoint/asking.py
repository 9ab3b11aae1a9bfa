"""A helper, and those who ask it: forks of the tests that are somebody else. For root."""

from __future__ import annotations

import ctypes
import grp
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from checkpoint import processes
from checkpoint.helper import find
from checkpoint.helper.client import Helper
from checkpoint.processes import Task
from tests import box, criu
from tests.box import NOBODY
from tests.checkpoint.freezing import until

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
Result = TypeVar("Result")


@dataclass
class Daemon:
    """A helper that runs, as its group's members find it."""

    folder: Path
    group: str
    under: tuple[str, ...] = ()
    """What to put before its command."""

    def __post_init__(self) -> None:
        (self.folder / "run").mkdir(mode=0o755, exist_ok=True)
        self.start()

    @property
    def address(self) -> Path:
        return self.folder / "run" / "checkpoint.sock"

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        options = ["--socket", str(self.address), "--group", self.group, "--key", str(self.folder / "key")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.under, sys.executable, "-m", "checkpoint", "helper", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.task = processes.look(self.process.pid)
        assert until(lambda: self.answers() or self.process.poll() is not None) and self.answers(), self.said

    def answers(self) -> bool:
        return isinstance(self.found(), Helper)

    def found(self, *, user: int = NOBODY, group: str | None = None) -> Any:
        """What somebody finds who looks for a helper."""

        def look() -> Any:
            os.environ[find.VARIABLE] = str(self.address)
            return find.find()

        return ask(look, user=user, group=group or self.group)

    def helper(self) -> Helper:
        found = self.found()
        assert isinstance(found, Helper), found
        return found

    def sessions(self) -> list[Task]:
        """What is at work for somebody."""
        return [task for task in processes.family([self.process.pid]) if task.pid != self.process.pid]

    def is_idle(self) -> bool:
        """Whether soon nothing is at work, and nothing is left of what was."""
        images = self.folder / "run/private/images"
        return until(lambda: not self.sessions() and not list(images.iterdir()))

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


def ask(what: Callable[[], Result], *, user: int = NOBODY, group: str | None = None) -> Result:
    """What this returns to somebody else, or raises there."""
    with asking(what, user=user, group=group) as (found, _):
        return found


def member(what: Callable[[], Result]) -> Result:
    """What this returns to a member of the group."""
    return ask(what, group=criu.group())


@contextmanager
def asking(what: Callable[[], Result], *, user: int = NOBODY, group: str | None = None) -> Iterator[tuple[Result, int]]:
    """The same, by a process that lives on until the block ends; its pid."""
    theirs, ours = os.pipe()
    stay, leave = os.pipe()
    asker = os.fork()
    if asker == 0:
        os.close(leave)
        _answer(what, ours, stay, user=user, group=group)
    for each in (ours, stay):
        os.close(each)
    try:
        with open(theirs, "rb") as file:
            result = pickle.load(file)
        if isinstance(result, BaseException):
            raise result
        yield result, asker
    finally:
        os.close(leave)
        os.waitpid(asker, 0)


def _answer(what: Callable[[], Any], ours: int, stay: int, *, user: int, group: str | None) -> None:
    try:
        become(user, group)
        try:
            result = what()
        except Exception as problem:
            result = problem
        with open(ours, "wb") as file:
            pickle.dump(result, file)
        os.read(stay, 1)
    finally:
        os._exit(0)


def become(user: int, group: str | None) -> None:
    os.setgroups([grp.getgrnam(group).gr_gid] if group else [])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def forgo_new_rights() -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


@contextmanager
def sleeper(*options: str, user: int = NOBODY, own_group: int | None = None, filtered: bool = False) -> Iterator[int]:
    """A program of that user, alone in its session."""
    plain = ("--clear-groups", "--inh-caps=-all", "--ambient-caps=-all")
    program = ["setpriv", f"--reuid={user}", f"--regid={own_group or user}", *(options or plain), "sleep", "1000"]
    process = subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        preexec_fn=box._filter_calls if filtered else None,
    )
    try:
        assert until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def rights(pid: int) -> list[str]:
    """Who it is, and what it may."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:"))]
