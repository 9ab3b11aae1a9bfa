"""Who is at the other end, as the kernel has it; and whether the helper can work for him where it is."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from checkpoint.errors import Unsupported

log = logging.getLogger(__name__)

_SO_PEERGROUPS, _SO_PEERPIDFD = 59, 77
_CREDENTIALS: Final = struct.Struct("iII")
_MOST: Final = 1024
_NAMESPACES: Final = {"mnt": "mount", "pid": "pid", "user": "user", "net": "network", "ipc": "IPC", "uts": "UTS"}
_REMEDY: Final = (
    "run the helper in the worker's container, or with the same PrivateTmp=, PrivateNetwork=, PrivateUsers= and their "
    "like as the worker's unit (JoinsNamespaceOf=)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process that connected, with the rights it had then."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    process: int
    """A descriptor of it."""

    @classmethod
    def at(cls, line: socket.socket) -> Self:
        """OSError if it is in more than 256 groups, or has ended."""
        pid, uid, gid = _credentials(line)
        raw = line.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST)
        groups = struct.unpack(f"{len(raw) // 4}I", raw)
        return cls(pid=pid, uid=uid, gid=gid, groups=groups, process=_process(line, pid))

    @property
    def bounding_set(self) -> int:
        """The capabilities that it can ever have, as a mask."""
        return int(_status(self.pid, "CapBnd") or "0", 16)

    @property
    def no_new_privs(self) -> bool:
        """Whether any of its threads has forgone to gain rights by what it executes."""
        threads = os.listdir(f"/proc/{self.pid}/task")
        return any(_status(f"{self.pid}/task/{thread}", "NoNewPrivs") == "1" for thread in threads)

    def require_served(self) -> None:
        """Unsupported if the helper does not work for it, with the reason and the remedy."""
        if self.uid == 0:
            raise Unsupported("the helper is for other users: root's workers need capabilities of their own")
        try:
            other = next(self._elsewhere(), None)
        except OSError as problem:
            raise Unsupported(f"the worker cannot be seen from where the helper runs ({problem}): {_REMEDY}") from None
        if other is not None:
            raise Unsupported(f"the worker is in another {other} than the helper: {_REMEDY}")
        self.require_alive()

    def require_alive(self) -> None:
        """Unsupported if it has ended: what was read by its pid may be of another process then."""
        if select.select([self.process], [], [], 0)[0]:
            raise Unsupported("the process that connected has ended: what gives the order has to be there")

    def join_cgroups(self) -> None:
        """What is restored then lives where its worker does. That this fails is no reason to refuse."""
        own = set(_cgroups("self"))
        with suppress(FileNotFoundError):
            for hierarchy, path in set(_cgroups(self.pid)) - own:
                try:
                    _join(hierarchy, path)
                except OSError as problem:
                    log.info("cgroup %s of process %s was not joined: %s", path, self.pid, problem)

    def _elsewhere(self) -> Iterator[str]:
        for name, what in _NAMESPACES.items():
            if os.readlink(f"/proc/{self.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                yield f"{what} namespace"
        if not os.path.samestat(os.stat(f"/proc/{self.pid}/root"), os.stat("/")):
            yield "root folder"
        if _profile(self.pid) != _profile("self"):
            yield "profile of AppArmor or SELinux"


def user_of(line: socket.socket) -> int:
    """Who connected."""
    return _credentials(line)[1]


def _credentials(line: socket.socket) -> tuple[int, int, int]:
    raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


def _process(line: socket.socket, pid: int) -> int:
    """A descriptor of whoever connected; before Linux 6.5 of whoever has its pid now."""
    try:
        return line.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as problem:
        if problem.errno != errno.ENOPROTOOPT:
            raise
        return os.pidfd_open(pid)


def _status(task: int | str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)$", Path(f"/proc/{task}/status").read_text(), re.MULTILINE)
    return found[1] if found else ""


def _profile(pid: int | str) -> str:
    """What is restored has the profile of whoever restores it."""
    try:
        return Path(f"/proc/{pid}/attr/current").read_text()
    except OSError:  # this kernel has none
        return ""


def _cgroups(pid: int | str) -> Iterator[tuple[str, str]]:
    """The hierarchies by their controllers, none for version 2, and where in them the process is."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _join(hierarchy: str, path: str) -> None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted, _, described = line.partition(" - ")
        kind, _, options = described.split(" ", 2)
        _, _, _, root, point, *_ = mounted.split()
        if kind == "cgroup2" if not hierarchy else kind == "cgroup" and set(hierarchy.split(",")) <= _words(options):
            place = Path(point) / os.path.relpath(path, root)
            (place / "cgroup.procs").write_text("0")
            return


def _words(options: str) -> set[str]:
    return set(options.split(","))
