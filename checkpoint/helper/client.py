"""The helper as a driver: what `Criu` does where this process has the rights, asked of one who has them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Final

from checkpoint import processes, zygote
from checkpoint.criu import PATIENCE, Mode
from checkpoint.errors import DumpFailed, RestoreFailed
from checkpoint.helper import protocol
from checkpoint.helper.protocol import Answer, Dump, Order, Restore
from checkpoint.rpc import Worker

_PAUSE: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Helper:
    """One helper, at its socket. What it restores lives no longer than this process, and is this process's to end."""

    address: Path
    version: tuple[int, ...]
    """Of its CRIU."""

    @property
    def place(self) -> Path:
        return self.address

    @property
    def mode(self) -> Mode:
        return Mode.HELPED

    def prepare(self, passing: Iterable[int] = ()) -> None:
        """Nothing: its CRIU starts with the order. One that waits for an image would be one less for others."""

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
        """As `Criu.dump`."""
        order = Dump(pid=pid, external=tuple(external), leave_stopped=leave_stopped, seconds=_seconds(timeout))
        with ExitStack() as failing:
            failing.callback(processes.thaw, pid)
            answer, line = self._ask(order, directory)
            line.close()
            if answer.ok:
                failing.pop_all()
                return
        raise DumpFailed(f"process {pid} was not dumped by the helper: {answer.message}", answer.log)

    def restore(
        self,
        directory: Path,
        *,
        inherit: Mapping[str, int] | None = None,
        timeout: timedelta = PATIENCE,
        worker: Worker | None = None,
    ) -> int:
        """As `Criu.restore`; the process is a child of one of the helper's, which stands in for this one."""
        inherit = inherit or {}
        order = Restore(inherit=tuple(inherit), seconds=_seconds(timeout))
        answer, line = self._ask(order, directory, list(inherit.values()))
        if not answer.ok:
            line.close()
            raise RestoreFailed(f"the image was not restored by the helper: {answer.message}", answer.log)
        _hold(line)
        return answer.pid

    def _ask(
        self, order: Dump | Restore, directory: Path, descriptors: Sequence[int] = ()
    ) -> tuple[Answer, socket.socket]:
        """The answer, and the connection, still open."""
        line = _new_line(timedelta(seconds=order.seconds) + 2 * protocol.MARGIN)
        try:
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return exchange(line, self.address, order, [folder, *descriptors]), line
            finally:
                os.close(folder)
        except (OSError, ValueError, TypeError) as problem:
            return Answer(ok=False, message=f"it does not answer ({problem})"), line


def greet(address: Path, *, timeout: timedelta) -> Answer:
    """What the helper at this address says of itself. OSError if it says nothing, Unclear if it speaks otherwise."""
    with _new_line(timeout) as line:
        return exchange(line, address, protocol.Greet())


def exchange(line: socket.socket, address: Path, order: Order, descriptors: Sequence[int] = ()) -> Answer:
    """Connect, give an order, and wait for the answer: who is turned away has one before he is heard."""
    with zygote.near(address) as path:
        _connect(line, path)
    with suppress(BrokenPipeError):
        protocol.send_order(line, order, descriptors)
    try:
        return protocol.receive_answer(line)
    except ConnectionResetError:  # the order was not read: the kernel tells so once, and before the answer
        return protocol.receive_answer(line)


def _connect(line: socket.socket, path: str) -> None:
    """Also where others have filled the helper's backlog: a socket with a time limit is told so at once."""
    deadline = time.monotonic() + (line.gettimeout() or 0)
    while True:
        try:
            return line.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _new_line(timeout: timedelta) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(timeout.total_seconds())
    return line


def _seconds(timeout: timedelta) -> float:
    return min(timeout, protocol.LONGEST).total_seconds()


def _hold(line: socket.socket) -> None:
    """Keep a connection: its process ends with it. Those of processes that have ended are closed."""
    line.setblocking(False)
    with _lock:
        for each in filter(_is_over, tuple(_held)):
            _held.discard(each)
            each.close()
        _held.add(line)


def _is_over(line: socket.socket) -> bool:
    try:
        return not line.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _forget() -> None:
    """A fork of this process is not whom they belong to, and must not keep them open."""
    while _held:
        _held.pop().close()


_lock: Final = Lock()
_held: Final[set[socket.socket]] = set()
os.register_at_fork(after_in_child=_forget)
