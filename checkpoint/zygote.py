"""The zygote: a single-threaded process that has imported everything, and forks run processes on request.

It holds no connection to anything but those who ask it, so what it forks can be dumped. Whoever asks keeps its
connection open for as long as it supervises the process: when that end is gone, the zygote ends the process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from checkpoint import processes, sandbox
from checkpoint.errors import CheckpointError
from checkpoint.line import Line
from checkpoint.processes import Task
from checkpoint.sandbox import Sandbox

PATIENCE: Final = timedelta(seconds=60)
"""How long a process may take to be forked; the zygote may still be importing when it is asked for its first."""

Main = Callable[[Line], None]
"""The life of a run process."""

_LARGEST: Final = 4096
_BACKLOG: Final = 128
_PR_SET_CHILD_SUBREAPER: Final = 36


class Unborn(CheckpointError):
    """The zygote did not fork a process."""

    code = "unborn"


@dataclass(frozen=True, slots=True)
class Zygote:
    """A zygote as those see it who ask it for processes."""

    address: Path

    def fork(self, *, timeout: timedelta = PATIENCE) -> Sandbox:
        """A new run process, on a leash that this process holds. Unborn if there is none."""
        leash, answer, descriptors = self._ask({"do": "fork"}, timeout)
        if len(descriptors) != 2:
            leash.close()
            raise Unborn(f"the zygote forked nothing: {answer.get('error', 'no reason given')}")
        line, output = descriptors
        return Sandbox(int(answer["pid"]), Line.on(line), int(answer["inode"]), output, leash)

    def await_ready(self, *, timeout: timedelta = PATIENCE) -> None:
        """Return once it has imported everything. Unborn if that takes longer."""
        leash, _, _ = self._ask({"do": "greet"}, timeout)
        leash.close()

    def watch(self, pid: int, *, timeout: timedelta = PATIENCE) -> socket.socket:
        """A leash for a process that was restored. Unborn if the zygote does not answer."""
        leash, _, _ = self._ask({"do": "watch", "pid": pid}, timeout)
        return leash

    def _ask(self, what: dict[str, object], timeout: timedelta) -> tuple[socket.socket, dict[str, str], list[int]]:
        leash = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        leash.settimeout(timeout.total_seconds())
        try:
            with near(self.address) as path:
                leash.connect(path)
            leash.send(json.dumps(what).encode())
            raw, descriptors, _, _ = socket.recv_fds(leash, _LARGEST, 2, socket.MSG_CMSG_CLOEXEC)
            return leash, json.loads(raw), descriptors
        except (OSError, ValueError) as problem:
            leash.close()
            raise Unborn(f"the zygote does not answer: {problem or type(problem).__name__}") from problem


def listen(address: Path) -> socket.socket:
    """The socket at which a zygote is asked; made by who starts it, so that it outlives a zygote that dies."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address.unlink(missing_ok=True)
    with near(address) as path:
        listener.bind(path)
    listener.listen(_BACKLOG)
    return listener


@contextmanager
def near(address: Path) -> Iterator[str]:
    """A way to this address that is no longer than a socket's may be, 107 characters, however deep its folder is."""
    folder = os.open(address.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def reserve() -> None:
    """Called before anything is opened: the number of the line must be no file's that run processes keep."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if nothing > sandbox.LINE:
        os.close(nothing)


def serve(listener: socket.socket, main: Main, *, keeper: int) -> None:
    """Fork processes that run `main`, until there is nothing but the end to read from `keeper`; none is left then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody needs to wait for what it forked
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.collect()
    gc.freeze()
    _Server(listener, main, keep=[number for number, kept in opened() if kept]).run(keeper)


def opened() -> Iterator[tuple[int, bool]]:
    """What this process has open beside its standard streams, and whether a run process may have it too: files."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if int(name) > 2:
                yield int(name), stat.S_ISREG(os.fstat(int(name)).st_mode)


class _Server:
    def __init__(self, listener: socket.socket, main: Main, *, keep: list[int]) -> None:
        self._listener = listener
        self._main = main
        self._keep = keep
        self._ready = selectors.DefaultSelector()
        self._leashes: dict[socket.socket, Task] = {}

    def run(self, keeper: int) -> None:
        self._ready.register(self._listener, selectors.EVENT_READ)
        self._ready.register(keeper, selectors.EVENT_READ)
        while True:
            for key, _ in self._ready.select():
                if key.fd == keeper:
                    if not os.read(keeper, _LARGEST):
                        return self._end_all()
                elif key.fileobj is self._listener:
                    asking, _ = self._listener.accept()
                    self._ready.register(asking, selectors.EVENT_READ)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._hear(key.fileobj)

    def _hear(self, asking: socket.socket) -> None:
        try:
            raw = asking.recv(_LARGEST)
        except OSError:
            raw = b""
        if not raw:
            return self._let_go(asking)
        with suppress(OSError):  # who asked has died meanwhile: its end of the leash says so
            try:
                self._answer(asking, json.loads(raw))
            except (OSError, ValueError, KeyError) as problem:
                asking.send(json.dumps({"error": str(problem)}).encode())
        return None

    def _answer(self, asking: socket.socket, wanted: dict[str, object]) -> None:
        if wanted["do"] == "forget":
            self._leashes.pop(asking, None)
            return
        if wanted["do"] in ("watch", "greet"):
            if "pid" in wanted:
                self._hold(asking, int(str(wanted["pid"])))
            asking.send(b"{}")
            return
        output, printed = os.pipe()
        try:
            made = sandbox.start(self._main, output=printed, keep=self._keep)
            self._hold(asking, made.pid)
            answer = json.dumps({"pid": made.pid, "inode": made.inode}).encode()
            socket.send_fds(asking, [answer], [made.line.fileno(), output])
            made.line.close()
        finally:
            os.close(output)
            os.close(printed)

    def _hold(self, asking: socket.socket, pid: int) -> None:
        task = processes.look(pid)
        if task is not None:
            self._leashes[asking] = task

    def _let_go(self, asking: socket.socket) -> None:
        """The supervisor is gone, or done; what is left of the process ends now."""
        self._ready.unregister(asking)
        asking.close()
        task = self._leashes.pop(asking, None)
        if task is not None and processes.household(task):
            processes.end(lambda: processes.household(task))

    def _end_all(self) -> None:
        for asking in list(self._leashes):
            self._let_go(asking)
