"""Can processes be frozen here? The verdict, with each reason and its remedy.

What decides is a real dump and restore of a small process; everything else explains it. Checking never raises.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from checkpoint import binary, pids, selftest
from checkpoint.binary import Binary
from checkpoint.criu import Criu, Mode
from checkpoint.errors import CheckpointError, Unsupported

_KERNEL: Final = (5, 9)
_FEW_PIDS: Final = 1 << 17
_PRIVILEGED: Final = {"SETPCAP": 8, "NET_ADMIN": 12, "SYS_CHROOT": 18, "SYS_ADMIN": 21, "SYS_TIME": 25}
_CHECKPOINT_RESTORE: Final = 40
_FILTERED: Final = "2"
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Something found on this host. A blocking one makes the verdict a no."""

    code: str
    message: str
    remedy: str
    blocking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether processes can be frozen and thawed here, with which CRIU and rights, and what is to be said about it."""

    ok: bool
    reasons: tuple[Reason, ...] = ()
    version: str | None = None
    path: str | None = None
    mode: str | None = None

    def describe(self) -> dict[str, object]:
        """For machines."""
        return asdict(self)

    def __str__(self) -> str:
        criu = f"CRIU {self.version} at {self.path}, {self.mode}" if self.version else "no usable CRIU"
        lines = [f"checkpoints {'work' if self.ok else 'do not work'} here: {criu}"]
        for reason in self.reasons:
            lines += [f"{'no' if reason.blocking else 'note'}: {reason.message}", f"    {reason.remedy}"]
        return "\n".join(lines)


def check(*, timeout: timedelta = selftest.PATIENCE) -> Verdict:
    """The verdict on this host and this user, now."""
    try:
        return _check(timeout)
    except Exception as problem:  # noqa: BLE001  a worker asks at its start, and must come up whatever is broken here
        message = f"the check itself failed: {type(problem).__name__}: {problem}"
        reason = Reason(code="check_failed", message=message, remedy="please report this", blocking=True)
        return Verdict(ok=False, reasons=(reason,))


def driver() -> Criu:
    """The driver for this host and this user. Unsupported if there is no CRIU to drive."""
    return Criu(binary=binary.find(), mode=_mode())


def _check(timeout: timedelta) -> Verdict:
    reasons = list(_look_around())
    found = None
    if not any(reason.blocking for reason in reasons):
        try:
            found = binary.find()
        except Unsupported as problem:
            reasons.insert(0, Reason(code="criu", message=problem.message, remedy=binary.INSTALL, blocking=True))
    if found is None:
        return Verdict(ok=False, reasons=tuple(reasons))
    failure = _try(found, timeout)
    if failure is not None:
        reasons.insert(0, failure)
    return Verdict(
        ok=failure is None,
        reasons=tuple(reasons),
        version=binary.dotted(found.version),
        path=str(found.path),
        mode=_mode().value,
    )


def _try(found: Binary, timeout: timedelta) -> Reason | None:
    try:
        selftest.run(Criu(binary=found, mode=_mode()), timeout=timeout)
    except (CheckpointError, OSError) as problem:
        remedy = "see the notes below; grant what they name, or run without checkpoints"
        return Reason(
            code="selftest",
            message=f"a small process could not be dumped and restored: {problem}",
            remedy=remedy,
            blocking=True,
        )
    return None


def _look_around() -> Iterator[Reason]:
    if sys.platform != "linux":
        yield Reason(
            code="platform", message=f"this is {sys.platform}", remedy="CRIU runs on Linux only", blocking=True
        )
        return
    yield from _look_at_kernel()
    yield from _look_at_rights()
    yield from _look_at_pids()
    yield from _look_at_run()
    yield from _look_at_network()


def _look_at_kernel() -> Iterator[Reason]:
    version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    if version < _KERNEL:
        remedy = f"use Linux {binary.dotted(_KERNEL)} or newer"
        yield Reason(code="kernel", message=f"Linux {platform.release()} is too old", remedy=remedy, blocking=True)
    if platform.machine() != "x86_64":
        message = f"{platform.machine()} was never tried"
        yield Reason(code="machine", message=message, remedy="x86-64 is what checkpoints are tested on")


def _look_at_rights() -> Iterator[Reason]:
    if not _may(_CHECKPOINT_RESTORE) and not _may(_PRIVILEGED["SYS_ADMIN"]):
        yield Reason(
            code="capabilities",
            message="this process lacks CAP_CHECKPOINT_RESTORE",
            remedy="in a container add the capability CHECKPOINT_RESTORE; under systemd set "
            "AmbientCapabilities=CAP_CHECKPOINT_RESTORE CAP_SETPCAP",
        )
    elif _mode() is Mode.UNPRIVILEGED:
        yield Reason(
            code="time_namespace",
            message="without CAP_SYS_ADMIN and CAP_SYS_TIME time.monotonic() jumps over a wait",
            remedy=f"harmless for most programs; else add {', '.join(_PRIVILEGED)}",
        )
    if _status("Seccomp") == _FILTERED:
        yield Reason(
            code="seccomp",
            message="a seccomp filter is on: CRIU cannot work under one like Docker's default",
            remedy="run the container with seccomp=unconfined",
        )


def _look_at_pids() -> Iterator[Reason]:
    if not pids.can_leap():
        yield Reason(
            code="ns_last_pid",
            message="/proc/sys/kernel/ns_last_pid cannot be written: pids of threads and children may be taken",
            remedy="in a container unmask /proc/sys (Docker: systempaths=unconfined; Kubernetes: procMount: Unmasked)",
        )
    if pids.most() < _FEW_PIDS:
        yield Reason(
            code="pid_max",
            message=f"there are only {pids.most()} pids: now and then one will be taken at restore",
            remedy="sysctl kernel.pid_max=4194304",
        )


def _look_at_run() -> Iterator[Reason]:
    if _file_system("/run") != "tmpfs":
        yield Reason(
            code="run",
            message="/run is no tmpfs: CRIU cannot keep what it learned about the kernel, 25 to 35 ms in every call",
            remedy="mount a tmpfs on /run (Docker: --tmpfs /run)",
        )


def _look_at_network() -> Iterator[Reason]:
    if not _loopback_is_up():
        yield Reason(
            code="loopback",
            message="the loopback interface of this network namespace is down: CRIU cannot find out what TCP can do",
            remedy="ip link set lo up",
        )


def _loopback_is_up() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        except OSError:
            return False
    return bool(struct.unpack("16sh14x", answer)[1] & _IFF_UP)


def _mode() -> Mode:
    return Mode.PRIVILEGED if all(map(_may, _PRIVILEGED.values())) else Mode.UNPRIVILEGED


def _may(capability: int) -> bool:
    return bool(int(_status("CapEff") or "0", 16) >> capability & 1)


def _status(name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found[1] if found else ""


def _file_system(path: str) -> str:
    """The kind of file system mounted at the longest prefix of `path`."""
    best = ("", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if os.path.commonpath([point, path]) == point and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
