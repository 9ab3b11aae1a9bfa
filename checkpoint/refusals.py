"""What a process holds that no image can carry, found before CRIU tries, and named so that a user can act.

CRIU refuses all of it too, but by numbers, and after the process was stopped.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_SEQPACKET, SOCK_STREAM
from typing import Final

from checkpoint import processes, rights, unixsockets
from checkpoint.errors import Refused
from checkpoint.filecaps import Capability

_KNOWN: Final = re.compile(
    r"anon_inode:\[?(eventfd|eventpoll|signalfd|timerfd|pidfd|inotify|fanotify|bpf-map)\b|inotify\b"
)
_TERMINALS: Final = {4, 5, *range(136, 144)}
_MEMORY: Final = 1
_TUN: Final = (10, 200)
_REMEDIES: Final = {
    "io_uring": "use asyncio's own loop instead of uvloop, and libraries without io_uring",
    "userfaultfd": "close it before the wait",
    "perf_event": "stop profiling before the wait",
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Something a process has open, by pid, number and /proc's name for it."""

    pid: int
    number: int
    target: str

    def __str__(self) -> str:
        return f"descriptor {self.number} of process {self.pid} ({self.target})"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing in the way of a dump, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def require_dumpable(pid: int, *, external: Iterable[int] = ()) -> None:
    """Refused, naming everything in the way, if the process or a child of it cannot be dumped."""
    found = find(pid, external=external)
    if found:
        raise Refused("; ".join(map(str, found)))


def find(pid: int, *, external: Iterable[int] = ()) -> list[Refusal]:
    """All that is in the way. The sockets of the inodes in `external` are dumped without their other ends."""
    members = [task.pid for task in processes.family([pid])]
    opened = [descriptor for member in members for descriptor in _opened(member)]
    found = [refusal for descriptor in opened for refusal in _judge(descriptor)]
    found += [refusal for descriptor in opened for refusal in _judge_pidfd(descriptor, members)]
    found += [refusal for member in members for refusal in _judge_memory(member)]
    return found + list(_judge_sockets(opened, set(external)))


def _opened(pid: int) -> Iterator[Descriptor]:
    folder = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                yield Descriptor(pid, int(name), os.readlink(f"{folder}/{name}"))


def _judge(descriptor: Descriptor) -> Iterator[Refusal]:
    if descriptor.target.startswith("anon_inode:") and not _KNOWN.match(descriptor.target):
        kind = descriptor.target.removeprefix("anon_inode:").strip("[]")
        yield Refusal(str(descriptor), _REMEDIES.get(kind, "close it before the wait"))
    elif "inotify" in descriptor.target and _is_watching(descriptor) and Capability.DAC_READ_SEARCH not in rights.own():
        yield Refusal(str(descriptor), "close it before the wait, or grant the worker CAP_DAC_READ_SEARCH")
    elif descriptor.target.startswith("/dev/") and _is_foreign_device(descriptor):
        yield Refusal(str(descriptor), "close the device before the wait and open it again after it")


def _judge_pidfd(descriptor: Descriptor, members: Collection[int]) -> Iterator[Refusal]:
    """One of a process that travels is restored, and so is one of a process that has ended: its pid is -1."""
    found = re.search(r"^Pid:\t(\d+)$", _told(descriptor), re.MULTILINE) if "pidfd" in descriptor.target else None
    if found and int(found[1]) not in members:
        yield Refusal(f"{descriptor}, of process {found[1]} outside", "close it before the wait")


def _is_watching(descriptor: Descriptor) -> bool:
    return "inotify wd:" in _told(descriptor)


def _told(descriptor: Descriptor) -> str:
    """What the kernel tells of an open file."""
    try:
        return Path(f"/proc/{descriptor.pid}/fdinfo/{descriptor.number}").read_text()
    except OSError:
        return ""


def _is_foreign_device(descriptor: Descriptor) -> bool:
    try:
        found = os.stat(f"/proc/{descriptor.pid}/fd/{descriptor.number}")
    except OSError:
        return False
    if not stat.S_ISCHR(found.st_mode):
        return stat.S_ISBLK(found.st_mode)
    major = os.major(found.st_rdev)
    return major not in _TERMINALS | {_MEMORY} and (major, os.minor(found.st_rdev)) != _TUN


def _judge_memory(pid: int) -> Iterator[Refusal]:
    try:
        mapped = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return
    if "/SYSV" in mapped:
        yield Refusal(
            f"System V shared memory of process {pid}", "use multiprocessing.shared_memory, or detach it first"
        )
    if "anon_inode:[io_uring]" in mapped:
        yield Refusal(f"io_uring in the memory of process {pid}", _REMEDIES["io_uring"])


def _judge_sockets(opened: Iterable[Descriptor], external: set[int]) -> Iterator[Refusal]:
    """A connected stream whose other end is outside; of a pair within the family, both ends travel."""
    held = {_inode(descriptor): descriptor for descriptor in opened if descriptor.target.startswith("socket:[")}
    if not held.keys() - external:
        return
    known = unixsockets.read()
    for inode in sorted(held.keys() - external):
        there = known.get(inode)
        if there is None or there.kind not in (SOCK_STREAM, SOCK_SEQPACKET) or not there.peer or there.peer in held:
            continue
        server = known[there.peer].name if there.peer in known else ""
        to = f", a unix connection to {server or 'another process'}"
        yield Refusal(f"{held[inode]}{to}", "close it before the wait, or connect by TCP: those are cut and made anew")


def _inode(descriptor: Descriptor) -> int:
    return int(descriptor.target.removeprefix("socket:[").removesuffix("]"))
