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
from collections.abc import Iterator, Set
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from checkpoint import binary, pids, rights, rpc, selftest
from checkpoint.criu import Criu
from checkpoint.driver import Driver
from checkpoint.errors import CheckpointError, Unsupported
from checkpoint.helper import find
from checkpoint.helper.client import Helper
from checkpoint.verdict import Reason, Verdict

_KERNEL: Final = (5, 9)
_FEW_PIDS: Final = 1 << 17
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1
_FORGETS: Final = "CRIU cannot keep what it learned about the kernel, 25 to 35 ms in every call"
_WHY_IT_DOES_NOT_START: Final = rights.WHY_IT_DOES_NOT_START | find.CODES
_WHY_IT_FAILS: Final = rights.WHY_IT_FAILS | find.CODES | {"loopback"}


def check(*, timeout: timedelta = selftest.PATIENCE) -> Verdict:
    """The verdict on this host and this user, now."""
    try:
        return _check(timeout)
    except Exception as problem:  # noqa: BLE001  a worker asks at its start, and must come up whatever is broken here
        message = f"the check itself failed: {type(problem).__name__}: {problem}"
        reason = Reason(code="check_failed", message=message, remedy="please report this", blocking=True)
        return Verdict(ok=False, reasons=(reason,))


def driver() -> Driver:
    """The driver for this host and this user: by rights of its own, the helper's, or those of CRIU's file.

    Unsupported if there is no CRIU to drive.
    """
    return _driver(_helper())


def _driver(helper: Helper | Reason | None) -> Driver:
    return helper if isinstance(helper, Helper) else Criu(binary=binary.find(), mode=rights.mode())


def _helper() -> Helper | Reason | None:
    return None if rights.has_own() else find.find()


def _check(timeout: timedelta) -> Verdict:
    helper = _helper()
    reasons = list(_look_around(helper))
    if any(reason.blocking for reason in reasons):
        return Verdict(ok=False, reasons=tuple(reasons))
    try:
        found = _driver(helper)
    except Unsupported as problem:
        absent = Reason(code="criu", message=problem.message, remedy=binary.INSTALL, blocking=True)
        return Verdict(ok=False, reasons=_explained(absent, reasons, by=_WHY_IT_DOES_NOT_START))
    failure = _try(found, timeout)
    return Verdict(
        ok=failure is None,
        reasons=_explained(failure, reasons, by=_WHY_IT_FAILS) if failure else tuple(reasons),
        version=binary.dotted(found.version),
        path=str(found.place),
        mode=found.mode.value,
    )


def _explained(failure: Reason, reasons: list[Reason], *, by: Set[str]) -> tuple[Reason, ...]:
    """What explains a failure comes before it, and is as blocking; what does not comes behind."""
    causes = [replace(reason, blocking=True) for reason in reasons if reason.code in by]
    return (*causes, failure, *(reason for reason in reasons if reason.code not in by))


def _try(found: Driver, timeout: timedelta) -> Reason | None:
    try:
        selftest.run(found, timeout=timeout)
    except (CheckpointError, OSError) as problem:
        return Reason(
            code="selftest",
            message=f"a small process could not be dumped and restored: {problem}",
            remedy="see what else is said here; grant what it names, or run without checkpoints",
            blocking=True,
        )
    return None


def _look_around(helper: Helper | Reason | None = None) -> Iterator[Reason]:
    if sys.platform != "linux":
        yield Reason(
            code="platform", message=f"this is {sys.platform}", remedy="CRIU runs on Linux only", blocking=True
        )
        return
    yield from _look_at_kernel()
    if isinstance(helper, Helper):
        yield from rights.look_helped()
    else:
        yield from [helper] if helper else []
        yield from rights.look(binary.first())
        yield from _look_at_run()
    yield from _look_at_pids()
    yield from _look_at_network()


def _look_at_kernel() -> Iterator[Reason]:
    version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    if version < _KERNEL:
        remedy = f"use Linux {binary.dotted(_KERNEL)} or newer"
        yield Reason(code="kernel", message=f"Linux {platform.release()} is too old", remedy=remedy, blocking=True)
    if platform.machine() != "x86_64":
        message = f"{platform.machine()} was never tried"
        yield Reason(code="machine", message=message, remedy="x86-64 is what checkpoints are tested on")


def _look_at_pids() -> Iterator[Reason]:
    if not pids.can_leap():
        yield Reason(
            code="ns_last_pid",
            message="/proc/sys/kernel/ns_last_pid cannot be written: pids of threads and children may be taken, and "
            "those of runs too where libraries have threads, as OpenBLAS has",
            remedy="in a container unmask /proc/sys (Docker: systempaths=unconfined; Kubernetes: procMount: Unmasked)",
        )
    if pids.most() < _FEW_PIDS:
        yield Reason(
            code="pid_max",
            message=f"there are only {pids.most()} pids: now and then one will be taken at restore",
            remedy="sysctl kernel.pid_max=4194304",
        )


def _look_at_run() -> Iterator[Reason]:
    folder = rpc.memory()
    if not folder:
        yield Reason(
            code="run",
            message=f"XDG_RUNTIME_DIR is not set: {_FORGETS}",
            remedy="set it to a folder of this user's own on a tmpfs (under systemd that of RuntimeDirectory=)",
        )
    elif file_system(folder) != "tmpfs":
        yield Reason(
            code="run",
            message=f"{folder} is no tmpfs: {_FORGETS}",
            remedy=f"mount a tmpfs on {folder} (Docker: --tmpfs {folder})",
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


def file_system(path: str) -> str:
    """The kind of file system mounted at the longest prefix of `path`."""
    best = ("", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if os.path.commonpath([point, path]) == point and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
