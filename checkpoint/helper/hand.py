"""The hand: a child of the helper that does one order, as the user who gave it, with the two capabilities CRIU needs.

It stands in for the worker: what it restores is its child, and it ends with the worker's connection. A process
that has a death signal, as those of runs do, ends with it; another one goes on as nobody's.
The key it never sees, for it is forked before that is read: for the seal it asks the session that made it.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn

from checkpoint import processes
from checkpoint.criu import Criu
from checkpoint.errors import CheckpointError, DumpFailed, TooLarge
from checkpoint.helper import protocol, rights, whole
from checkpoint.helper.peer import Peer
from checkpoint.helper.protocol import Answer, Dump, Greet, Order, Restore

log = logging.getLogger(__name__)

YES: Final = "yes"
_SHARE: Final = 4
_WRITTEN: Final = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s*(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """With what it works."""

    line: socket.socket
    """To the worker."""
    session: socket.socket
    """To the session, which sees to the seal."""
    folder: int
    """Private, for images; nobody else can reach it."""
    memory: int
    """Where CRIU keeps what it learned about the kernel."""
    peer: Peer
    criu: Criu

    def live(self, parent: int) -> NoReturn:
        """The life of this process, forked from `parent`."""
        status = 1
        try:
            rights.become(self.peer)
            processes.die_with(parent)
            os.environ["XDG_RUNTIME_DIR"] = f"/proc/self/fd/{self.memory}"
            self._obey()
            status = 0
        except (CheckpointError, OSError, ValueError) as problem:
            log.warning("user %s: %s", self.peer.uid, problem)
        except BaseException:
            log.exception("user %s: the helper has a fault", self.peer.uid)
        finally:
            os._exit(status)

    def _obey(self) -> None:
        self.line.settimeout(protocol.SILENCE.total_seconds())
        try:
            order, descriptors = protocol.receive_order(self.line)
        except protocol.Unclear as problem:
            self._answer(Answer(ok=False, code="unclear", message=str(problem)))
            return self._tell(f"done refused: {problem}")
        self._tell(f"order {getattr(order, 'seconds', 0)} {order}")
        try:
            pid = self._do(order, descriptors)
        except (CheckpointError, OSError, ValueError) as problem:
            answer = _refusal(problem)
            self._answer(answer)
            return self._tell(f"done failed: {answer.message}")
        if pid is None:
            return self._tell("done")
        return self._rest(pid, descriptors)

    def _do(self, order: Order, descriptors: list[int]) -> int | None:
        """The pid of what was restored, if that was the order. Whoever is not told of it does not get it."""
        match order:
            case Greet():
                self._answer(Answer(ok=True, criu=self.criu.version))
            case Dump():
                self._dump(order, descriptors[0])
            case Restore():
                return self._restore(order, *descriptors)
        return None

    def _dump(self, order: Dump, given: int) -> None:
        _require_own(order.pid, self.peer)
        _require_room(order.pid, _room(self.folder))
        self.criu.dump(
            order.pid,
            _path(self.folder),
            external=order.external,
            leave_stopped=order.leave_stopped,
            timeout=timedelta(seconds=order.seconds),
            worker=self.criu.prepare([self.folder, self.memory]),
        )
        with ExitStack() as failing:
            failing.callback(processes.thaw, order.pid)
            whole.settle(_path(self.folder))
            self._ask("seal")
            whole.copy(_path(self.folder), _path(given))
            self._answer(Answer(ok=True))
            failing.pop_all()

    def _restore(self, order: Restore, given: int, *inherited: int) -> int:
        whole.copy(_path(given), _path(self.folder), limit=_room(self.folder))
        self._ask("check")
        pid = self.criu.restore(
            _path(self.folder),
            inherit=dict(zip(order.inherit, inherited, strict=True)),
            timeout=timedelta(seconds=order.seconds),
            worker=self.criu.prepare([self.folder, self.memory, *inherited]),
        )
        with ExitStack() as failing:
            failing.callback(processes.end, lambda: processes.family([pid]))
            rights.give_up()
            self._answer(Answer(ok=True, pid=pid))
            failing.pop_all()
        return pid

    def _rest(self, pid: int, descriptors: list[int]) -> None:
        """Until the process ends, or the worker lets go of it: then it ends with this one."""
        for descriptor in (self.folder, self.memory, *descriptors):
            os.close(descriptor)
        processes.live_on()
        self._tell("done")
        self.session.close()
        ended = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(self.line, select.POLLIN)
        if ended in dict(poll.poll()):
            os.waitpid(pid, 0)

    def _answer(self, answer: Answer) -> None:
        protocol.send_answer(self.line, answer)

    def _tell(self, what: str) -> None:
        with suppress(OSError):  # its end is ours, by a signal
            self.session.send(what.encode(errors="replace")[:4096])

    def _ask(self, what: str) -> None:
        """Have the session do it. Its reason against it, if there is one, goes to the worker."""
        self.session.send(what.encode())
        answer = self.session.recv(4096).decode()
        if answer != YES:
            raise CheckpointError(answer or "the helper is about to end")


def _refusal(problem: Exception) -> Answer:
    if isinstance(problem, CheckpointError):
        return Answer(ok=False, code=problem.code, message=problem.message, log=problem.log)
    return Answer(ok=False, code="failed", message=f"the helper could not do it: {problem}")


def _require_own(pid: int, peer: Peer) -> None:
    """The kernel would say no as well, and CRIU would tell it in more words."""
    try:
        found = os.stat(f"/proc/{pid}")
    except OSError:
        raise DumpFailed(f"there is no process {pid}") from None
    if found.st_uid != peer.uid:
        raise DumpFailed(f"process {pid} is not of user {peer.uid}, or does not let itself be looked into")


def _require_room(pid: int, room: int) -> None:
    """Before CRIU fills the folder of all with a process that is too large."""
    size = sum(map(_memory, (task.pid for task in processes.family([pid]))))
    if size > room:
        raise TooLarge(f"the process has {size >> 20} MB, and the helper has room for {room >> 20} MB")


def _memory(pid: int) -> int:
    """In bytes, what CRIU would write of it."""
    with suppress(OSError):
        return sum(int(found) << 10 for found in _WRITTEN.findall(Path(f"/proc/{pid}/status").read_text()))
    return 0


def _room(folder: int) -> int:
    """How large an image may be here: where images lie in memory, others need room too."""
    found = os.fstatvfs(folder)
    return found.f_bavail * found.f_frsize // _SHARE


def _path(folder: int) -> Path:
    return Path(f"/proc/self/fd/{folder}")
