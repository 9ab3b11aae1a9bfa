"""The run process: alone in its session, with one line to its supervisor, and standing still on request.

Nothing else is inherited: a descriptor shared with somebody outside is what makes a dump fail.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn, Self

from checkpoint import pids, processes
from checkpoint.criu import PATIENCE as RESTORE_PATIENCE
from checkpoint.driver import Driver
from checkpoint.errors import RestoreFailed
from checkpoint.line import Hung, Line, Message, Word
from checkpoint.reseed import reseed
from checkpoint.rpc import Worker

PATIENCE: Final = timedelta(seconds=30)
FORGET: Final = b'{"do": "forget"}'
"""What is said over a leash when nothing needs to end with it any more."""

LINE: Final = 3
_NONCE: Final = 16


class Orphaned(SystemExit):
    """The supervisor is gone: nobody waits for this process any more, and it ends. Not for user code to catch."""


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
    output: int = -1
    """The end of the pipe at which to read what it prints, if it prints to one."""
    leash: socket.socket | None = None
    """While this is open somebody sees to it that the process ends with its supervisor."""

    @property
    def pipe(self) -> int:
        """What CRIU knows the process's own end of the pipe by: `pipe:[inode]` at restore."""
        return os.fstat(self.output).st_ino if self.output >= 0 else 0

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
        self._close()

    def release(self) -> None:
        """Let go of it: it ends by itself as soon as it looks at its line. What it has started may stay."""
        if self.leash is not None:
            with suppress(OSError):
                self.leash.send(FORGET)
        self._close()
        processes.let_go(self.pid)

    def _close(self) -> None:
        self.line.close()
        if self.output >= 0:
            os.close(self.output)
        if self.leash is not None:
            self.leash.close()


def start(main: Callable[[Line], None], *, output: Path | int, keep: Iterable[int] = ()) -> Sandbox:
    """Fork a run process that runs `main` and exits; what it prints goes to `output`, a file or a descriptor.

    Of the descriptors of this process it has those in `keep`. It is killed when the thread that started it ends.
    """
    ours, theirs = Line.pair()
    inode = theirs.inode()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = pids.fork()
    if pid == 0:
        _live(main, theirs, output, keep=keep, parent=parent)
    theirs.close()
    return Sandbox(pid, ours, inode)


def thaw(
    criu: Driver, directory: Path, *, control: int, pipe: int = 0, timeout: timedelta = RESTORE_PATIENCE
) -> Sandbox:
    """Restore the run process in `directory` as a child of this one; it stands still until it is woken.

    `control` and `pipe` are the inodes that its ends of line and output had.
    """
    with Thaw(criu) as ready:
        return ready(directory, control=control, pipe=pipe, timeout=timeout)


class Thaw:
    """A restore made ready: CRIU starts while the image is still being fetched. For one call."""

    def __init__(self, criu: Driver) -> None:
        self._criu = criu
        self._held = ExitStack()
        self._line, self._theirs = Line.pair()
        self._output, self._printed = os.pipe()
        self._held.callback(self._theirs.close)
        self._held.callback(os.close, self._printed)
        self._ours = ExitStack()
        self._ours.callback(self._line.close)
        self._ours.callback(os.close, self._output)
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        with ExitStack() as failing:
            failing.callback(self._close)
            self._worker = self._criu.prepare([self._theirs.fileno(), self._printed])
            failing.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        self._close()

    def __call__(
        self, directory: Path, *, control: int, pipe: int = 0, timeout: timedelta = RESTORE_PATIENCE
    ) -> Sandbox:
        """The process, as `thaw` has it."""
        inherit = {f"socket:[{control}]": self._theirs.fileno()} | ({f"pipe:[{pipe}]": self._printed} if pipe else {})
        pid = self._criu.restore(directory, inherit=inherit, timeout=timeout, worker=self._worker)
        self._ours.pop_all()
        return Sandbox(pid, self._line, self._theirs.inode(), self._output)

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._held.close()
        self._ours.close()


def park(line: Line, payload: bytes = b"") -> Wake:
    """Stand still until the supervisor says to go on: in this call the process is dumped and restored."""
    try:
        with _alarm_held():
            message = _stand_still(line, payload)
        restored = message.word is Word.RESTORED
        if restored:
            reseed()
        line.send(Message(Word.AWAKE, message.payload[:_NONCE]))
    except Hung as problem:
        raise Orphaned(str(problem)) from problem
    return Wake(message.payload[_NONCE:], restored)


def _stand_still(line: Line, payload: bytes) -> Message:
    line.send(Message(Word.PARKED, payload))
    while True:
        message = line.receive()
        if message.word in (Word.GO_ON, Word.RESTORED):  # others were sent before it was known that we stand still
            return message


@contextmanager
def _alarm_held() -> Iterator[None]:
    """The alarm stands still too: one that rings while CRIU is at work is in no image."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        if left:
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _live(
    main: Callable[[Line], None], theirs: Line, output: Path | int, *, keep: Iterable[int], parent: int
) -> NoReturn:
    """The life of a run process: it never returns into the code of the process it was forked from."""
    status = 1
    try:
        processes.die_with(parent)  # an image keeps this: a restored one dies with the supervisor whose child it is
        line = _settle(theirs, output, keep)
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


def _settle(theirs: Line, output: Path | int, keep: Iterable[int]) -> Line:
    os.setsid()
    _reset_signals()
    _move_descriptors(theirs.fileno(), output, keep)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  for the life of the process
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    reseed()  # two forks of one parent would draw the same numbers
    return Line.on(LINE)


def _move_descriptors(line: int, output: Path | int, keep: Iterable[int]) -> None:
    """0 is empty, 1 and 2 are the output, 3 is the line, and of the others there are those to keep."""
    kept = sorted(number for number in keep if number > LINE)
    room = max([LINE, *kept]) + 1  # out of the way of all of them
    high = fcntl.fcntl(line, fcntl.F_DUPFD_CLOEXEC, room)
    written = fcntl.fcntl(_opened(output), fcntl.F_DUPFD_CLOEXEC, room)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.dup2(high, LINE, inheritable=False)
    lowest = LINE + 1
    for number in kept:
        os.closerange(lowest, number)
        lowest = number + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))


def _opened(output: Path | int) -> int:
    if isinstance(output, int):
        return output
    return os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
