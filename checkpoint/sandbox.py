"""The run process: alone in its session, with one line to its supervisor, and standing still on request.

Nothing else is inherited: a descriptor shared with somebody outside is what makes a dump fail.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn

from checkpoint import pids, processes
from checkpoint.errors import RestoreFailed
from checkpoint.line import Hung, Line, Message, Word
from checkpoint.reseed import reseed

PATIENCE: Final = timedelta(seconds=10)

_LINE: Final = 3
_NONCE: Final = 16


class Orphaned(BaseException):
    """The supervisor is gone: nobody waits for this process any more. Not for user code to catch."""


@dataclass(frozen=True, slots=True)
class Wake:
    """What a process was woken with, and whether it was away meanwhile."""

    payload: bytes
    restored: bool


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A run process as its supervisor has it."""

    pid: int
    line: Line
    inode: int
    """What CRIU knows the process's own end of the line by: `unix[inode]` at dump, `socket:[inode]` at restore."""

    def await_park(self, *, timeout: timedelta) -> bytes:
        """Wait until it stands still; what it has to say."""
        message = self.line.receive(timeout=timeout)
        if message.word is not Word.PARKED:
            raise Hung(f"the process says {message.word.name} instead of standing still")
        return message.payload

    def wake(self, payload: bytes = b"", *, restored: bool, timeout: timedelta = PATIENCE) -> None:
        """Let it go on. RestoreFailed, and the process is gone, if it does not call back in time."""
        nonce = secrets.token_bytes(_NONCE)
        try:
            self.line.send(Message(Word.RESTORED if restored else Word.GO_ON, nonce + payload))
            answer = self.line.receive(timeout=timeout)
        except (Hung, TimeoutError) as problem:
            self.end()
            raise RestoreFailed(f"process {self.pid} did not call back: {problem}") from problem
        if answer != Message(Word.AWAKE, nonce):
            self.end()
            raise RestoreFailed(f"process {self.pid} called back with something else")

    def end(self) -> None:
        """Kill it and its children, and wait for it."""
        processes.end(lambda: processes.family([self.pid]))
        self.line.close()


def start(main: Callable[[Line], None], *, output: Path) -> Sandbox:
    """Fork a run process that runs `main` and exits; what it prints is appended to `output`."""
    ours, theirs = Line.pair()
    inode = theirs.inode()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = pids.fork()
    if pid == 0:
        _live(main, theirs, output)
    theirs.close()
    return Sandbox(pid, ours, inode)


def park(line: Line, payload: bytes = b"") -> Wake:
    """Stand still until the supervisor says to go on: in this call the process is dumped and restored."""
    try:
        line.send(Message(Word.PARKED, payload))
        message = line.receive()
        restored = message.word is Word.RESTORED
        if restored:
            reseed()
        line.send(Message(Word.AWAKE, message.payload[:_NONCE]))
    except Hung as problem:
        raise Orphaned(str(problem)) from problem
    return Wake(message.payload[_NONCE:], restored)


def _live(main: Callable[[Line], None], theirs: Line, output: Path) -> NoReturn:
    """The life of a run process: it never returns into the code of the process it was forked from."""
    status = 1
    try:
        line = _settle(theirs, output)
        main(line)
        status = 0
    except Orphaned:
        pass
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else bool(leaving.code)
    except BaseException:  # noqa: BLE001  nothing is above this frame but code of another process
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _settle(theirs: Line, output: Path) -> Line:
    os.setsid()
    _reset_signals()
    _move_descriptors(theirs.fileno(), output)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    reseed()  # two forks of one parent would draw the same numbers
    return Line.on(_LINE)


def _move_descriptors(line: int, output: Path) -> None:
    """0 is empty, 1 and 2 append to the file, 3 is the line, and there is no other."""
    high = fcntl.fcntl(line, fcntl.F_DUPFD_CLOEXEC, _LINE + 1)  # out of the way of 0 to 2
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.dup2(high, _LINE, inheritable=False)
    os.closerange(_LINE + 1, os.sysconf("SC_OPEN_MAX"))


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
