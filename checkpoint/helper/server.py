"""The daemon: it listens, and forks a session for each connection. It does nothing else, so that nothing ends it.

It may be started anew at any time: sessions and what they restored go on.
"""

from __future__ import annotations

import gc
import grp
import logging
import os
import selectors
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

import checkpoint
from checkpoint import binary, grant, zygote
from checkpoint.binary import Binary
from checkpoint.errors import Unsupported
from checkpoint.helper import key, session
from checkpoint.helper.house import House
from checkpoint.helper.turns import Turns

log = logging.getLogger(__name__)

KEY: Final = Path("/etc/triggerapp/checkpoint-helper.key")
_PRIVATE: Final = "private"
_PAUSE: Final = 0.1


def run(address: Path, *, group: str, key_file: Path = KEY) -> None:
    """Serve members of `group` until SIGTERM. Unsupported says what is in the way."""
    if os.geteuid() != 0:
        raise Unsupported("the helper runs as root: it works with the rights of whoever asks")
    number = _number(group)
    address = _folder_of(address) / address.name
    key_file = key_file.absolute()
    key.prepare(key_file)
    house = House(root=address.parent / _PRIVATE, key_file=key_file, criu=_criu())
    house.make()
    with _listening(address, number) as listener:
        log.info("listening at %s for %s, with %s", address, group, house.criu)
        Server(listener, house).run()


class Server:
    """A listener, and the sessions at work."""

    def __init__(self, listener: socket.socket, house: House) -> None:
        self._listener = listener
        self._house = house
        self._turns = Turns()
        self._stopping = False
        self._signals, self._woken = socket.socketpair()

    def run(self) -> None:
        """Until SIGTERM."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            ready.register(self._signals, selectors.EVENT_READ)
            self._heed_signals()
            gc.freeze()
            while not self._stopping:
                for event, _ in ready.select():
                    if event.fileobj is self._signals:
                        self._signals.recv(4096)
                        self._reap()
                    else:
                        self._accept()
                self._begin()

    def _heed_signals(self) -> None:
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stopping", True))

    def _accept(self) -> None:
        try:
            line, _ = self._listener.accept()
        except OSError as problem:  # it has gone again, or still stands there: too many open files
            log.warning("nobody was let in: %s", problem)
            time.sleep(_PAUSE)
            return
        if not self._turns.join(line):
            session.turn_away(line)

    def _begin(self) -> None:
        """A session for each whose turn it is."""
        while not self._stopping and (found := self._turns.next()):
            line, user = found
            with line:
                try:
                    made = os.fork()
                except OSError as problem:
                    log.warning("nobody was served: %s", problem)
                    continue
                if made == 0:
                    self._serve(line)
                self._turns.begin(made, user)

    def _serve(self, line: socket.socket) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for each in (self._listener, self._signals, self._woken):
                each.close()
            self._turns.leave()
            session.serve(line, self._house)
        except BaseException:
            log.exception("the helper has a fault")
        finally:
            os._exit(0)

    def _reap(self) -> None:
        """Forget the sessions that are over, and clean up after those that were killed."""
        killed = False
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._turns.end(found[0])
                killed |= found[1] != 0
        if killed:
            self._house.tidy()


def _criu() -> Binary:
    """The one to work with, which nobody but root can change: it is given capabilities."""
    found = binary.find()
    start = found.path
    whole = start.parent.parent if binary.program_of(start) != start else start
    changed = grant.changed_by_others(whole.resolve())
    if changed is not None:
        raise Unsupported(f"{changed} can be changed by others than root, who would have its capabilities: chown it")
    code = grant.changed_by_others(Path(checkpoint.__file__).resolve().parent)
    if code is not None:
        log.warning("%s can be changed by others than root: they are root by this; install it for root alone", code)
    return found


def _folder_of(address: Path) -> Path:
    """The folder for the socket, made if there is none: root's alone to change."""
    folder = address.absolute().parent
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
    except OSError as problem:
        raise Unsupported(
            f"the folder {folder} cannot be made ({problem.strerror}): make the one above it, or choose another place "
            "for the socket (--socket)"
        ) from problem
    folder = folder.resolve()
    changed = grant.changed_by_others(folder, below=False)
    if changed is not None:
        raise Unsupported(f"{changed} can be changed by others than root: choose another folder for the socket")
    return folder


@contextmanager
def _listening(address: Path, number: int) -> Iterator[socket.socket]:
    _require_free(address)
    before = os.umask(0o177)
    try:
        listener = zygote.listen(address)
    finally:
        os.umask(before)
    with listener:
        os.chown(address, 0, number)
        address.chmod(0o660)
        made = address.stat()
        yield listener
        with suppress(OSError):
            if os.path.samestat(made, address.stat()):  # not that of another one, started meanwhile
                address.unlink()


def _number(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Unsupported(
            f"there is no group {group}: groupadd --system {group}, and add the workers' user to it"
        ) from None


def _require_free(address: Path) -> None:
    """What lies there is replaced: nothing, or the socket of a helper that has ended."""
    if os.path.lexists(address) and not stat.S_ISSOCK(address.lstat().st_mode):
        raise Unsupported(f"{address} is no socket: choose another place for it (--socket)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trying, suppress(OSError):
        with zygote.near(address) as path:
            trying.connect(path)
        raise Unsupported(f"another helper listens at {address} already")
