"""The processes of the demo: Celery workers, started for real, killed for real, and never left behind.

A process is known as ours by its environment, which carries the path of this demo's ledger, and is ended by its id.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Self

from triggerapp.services import process
from triggerapp.services.process import PR_SET_PDEATHSIG, Identity
from workers.demo import ledger

PATIENCE: Final = 60.0
"""Seconds a worker has to leave when asked, before it is killed."""

_GONE: Final = 0
"""The parent of a process that is gone."""

OPTIONS: Final = ("-A", "workers.demo.celery", "worker", "-c", "2")
CELERY: Final = (sys.executable, "-m", "celery", *OPTIONS)


class Worker:
    """One Celery worker in a session of its own, while entered; its output goes to a file."""

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Sequence[str] = CELERY,
        *,
        directory: Path | None = None,
        inherits: Sequence[int] = (),
    ) -> None:
        """Stands in `directory`, or where this process does; `inherits` are open files it has besides its output."""
        self.name = name
        self._temporary = temporary(name, folder)
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self._command = command
        self._directory = directory
        self._inherits = inherits
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._temporary.mkdir(exist_ok=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                pass_fds=self._inherits,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {ledger.AUTHOR: self.name, "TMPDIR": str(self._temporary)},
                start_new_session=True,
                preexec_fn=_leash(),
            )
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if failure:
            self.kill9()  # it may be in the middle of anything
            return
        self._running.terminate()
        try:
            self._running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill9()

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def alive(self) -> bool:
        return self._running.poll() is None

    def kill9(self) -> None:
        """Kill the worker and all it started at once, as a power cut would."""
        family = owned(self.name)
        for one in sorted(family, key=lambda one: one.pid == self.pid):  # none is left to tell the database
            strike(one)
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)  # a child forked meanwhile
        self._running.wait()
        process.until(lambda: not any(one.alive() for one in family), within=PATIENCE)

    def of_runs(self) -> list[str]:
        """The command lines of the processes in which its runs are: each is a copy of its zygote, its own child."""
        copies = [one.pid for one in owned(self.name) if b"workers.zygote" in _read(one.pid, "cmdline").split(b"\0")]
        return [f"{pid} {_command(pid)}" for pid in copies if _parent(pid) not in (_GONE, self.pid)]

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "enter the worker first"
        return self._process


def temporary(name: str, folder: Path) -> Path:
    """Where a worker keeps what it need not find again: what one leaves that is killed goes with the demo's folder."""
    return folder / f"{name.replace(' ', '-')}.tmp"


def owned(author: str | None = None) -> list[Identity]:
    """This demo's processes except this one; of one author only, if given."""
    marks = {f"{ledger.PATH}={os.environ[ledger.PATH]}".encode()}
    if author is not None:
        marks.add(f"{ledger.AUTHOR}={author}".encode())
    pids = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
    found = [process.identify(pid) for pid in pids if pid != os.getpid() and marks <= _environment(pid)]
    return [one for one in found if one]


def left_behind(patience: float = 30.0) -> list[str]:
    """The command lines of processes of ours that are still there after `patience`. They are killed."""
    process.until(lambda: not owned(), within=patience)
    remaining = {one: _command(one.pid) for one in owned()}
    for one in remaining:
        strike(one)
    return [f"{one.pid} {command}" for one, command in remaining.items()]


def strike(one: Identity) -> None:
    """SIGKILL to this very process."""
    if one.alive():
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _parent(pid: int) -> int:
    status = _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()
    return int(status[1]) if status else _GONE


def _environment(pid: int) -> set[bytes]:
    return set(_read(pid, "environ").split(b"\0"))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return b""


def _leash() -> Callable[[], None] | None:
    """What makes a child go if this process is killed; where the kernel can do it."""
    if sys.platform != "linux":
        return None
    return partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, int(signal.SIGKILL))  # loaded before the fork
