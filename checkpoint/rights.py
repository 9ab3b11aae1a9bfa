"""What CRIU may do here: by capabilities of this process, by those of its own file, and what stands against either."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from checkpoint import filecaps
from checkpoint.criu import Mode
from checkpoint.filecaps import NEEDED, Capability
from checkpoint.verdict import Reason

_PRIVILEGED: Final = frozenset(Capability) - {Capability.CHECKPOINT_RESTORE, Capability.DAC_READ_SEARCH}
_FILTERED: Final = "2"
_AMBIENT: Final = (
    "in a container add the capabilities CHECKPOINT_RESTORE and SETPCAP; under systemd set "
    "AmbientCapabilities=CAP_CHECKPOINT_RESTORE CAP_SETPCAP"
)
_HELPER: Final = "or as root run the helper, `python -m checkpoint helper --group GROUP`"
_FROM_FILE: Final = "or as root run `python -m checkpoint install --file-capabilities GROUP`, with a group of this user"

WHY_IT_DOES_NOT_START: Final = frozenset({"not_in_group", "bounding_set"})
WHY_IT_FAILS: Final = WHY_IT_DOES_NOT_START | {"seccomp", "capabilities", "file_capabilities", "no_new_privs", "nosuid"}
"""The codes of reasons by which a dump or a restore that fails is explained."""


def mode() -> Mode:
    """How CRIU is to work with what this process may. Another user's request it takes as an unprivileged one alone."""
    return Mode.PRIVILEGED if os.geteuid() == 0 and own() >= _PRIVILEGED else Mode.UNPRIVILEGED


def own() -> frozenset[Capability]:
    """What this process may by itself."""
    return filecaps.among(_mask("CapEff"))


def has_own() -> bool:
    """Whether CRIU can work by what this process may."""
    return bool(own() & {Capability.CHECKPOINT_RESTORE, Capability.SYS_ADMIN})


def look_helped() -> Iterator[Reason]:
    """What is to be said about rights where a helper has them."""
    yield from _look_at_clock()
    yield _everybodys_pids("the helper")
    yield from _look_at_filter()


def look(program: Path | None) -> Iterator[Reason]:
    """What is to be said about rights, if CRIU is this program."""
    if has_own():
        yield from _look_at_clock()
    else:
        yield from _look_at_file(program)
    yield from _look_at_filter()


def _look_at_clock() -> Iterator[Reason]:
    if mode() is Mode.UNPRIVILEGED:
        yield Reason(
            code="time_namespace",
            message="for others than root with CAP_SYS_ADMIN and CAP_SYS_TIME time.monotonic() jumps over a wait",
            remedy=f"harmless for most programs; else run the worker as root with {filecaps.names(_PRIVILEGED)}",
        )


def _look_at_filter() -> Iterator[Reason]:
    if _status("Seccomp") == _FILTERED:
        yield Reason(
            code="seccomp",
            message="a seccomp filter is on: CRIU cannot work under one like Docker's default",
            remedy="run the container with seccomp=unconfined (Kubernetes: seccompProfile.type: Unconfined); under "
            "systemd without SystemCallFilter= and its like",
        )


def _look_at_file(program: Path | None) -> Iterator[Reason]:
    """Whether its own capabilities stand in for those that this process lacks."""
    given = filecaps.read(program) if program else frozenset()
    if not program or not given:
        message = "this process lacks CAP_CHECKPOINT_RESTORE"
        yield Reason(code="capabilities", message=message, remedy=f"{_AMBIENT}; {_HELPER}; {_FROM_FILE}")
    elif not given >= NEEDED:
        message = f"{program} has {filecaps.names(given)} and lacks {filecaps.names(NEEDED - given)}"
        yield Reason(code="file_capabilities", message=message, remedy=_FROM_FILE.removeprefix("or "))
    else:
        yield from _look_at_obstacles(program, given - filecaps.among(_mask("CapBnd")))
        yield from _look_at_clock()
        yield _everybodys_pids("CRIU")


def _everybodys_pids(holder: str) -> Reason:
    return Reason(
        code="pids",
        message=f"{holder} has capabilities and this process has none: runs have pids as everybody's, and now and then "
        "one is taken at restore, as after the host was started anew; that run is entered again",
        remedy=f"only if that happens too often: {_AMBIENT}",
    )


def _look_at_obstacles(program: Path, out_of_bounds: frozenset[Capability]) -> Iterator[Reason]:
    """What has the kernel pass over a file's capabilities."""
    if not os.access(program, os.X_OK):
        yield Reason(
            code="not_in_group",
            message=f"{program} has the capabilities, and this user may not execute it",
            remedy=f"add the user to the group {filecaps.group(program)} (usermod -aG), and start the worker anew",
        )
    if _status("NoNewPrivs") == "1":
        yield Reason(
            code="no_new_privs",
            message=f"{program} has the capabilities, and no_new_privs keeps this process from getting them",
            remedy="systemd: NoNewPrivileges=no, and none of the directives that imply it; Docker: take "
            f"no-new-privileges out of security_opt; Kubernetes: allowPrivilegeEscalation: true. Or {_AMBIENT}",
        )
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        yield Reason(
            code="nosuid",
            message=f"{program} has the capabilities, and lies on a file system that is mounted nosuid",
            remedy="install it elsewhere with --prefix, or mount that file system without nosuid",
        )
    if out_of_bounds:
        yield Reason(
            code="bounding_set",
            message=f"{filecaps.names(out_of_bounds)} is not in the bounding set: no file can give it to this process",
            remedy="systemd: add it to CapabilityBoundingSet=; in a container add the capability",
        )


def _mask(name: str) -> int:
    return int(_status(name) or "0", 16)


def _status(name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found[1] if found else ""
