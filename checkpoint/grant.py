"""CRIU's own capabilities, for workers that have none: what is written to its file, and who may execute it.

Whoever may execute it holds these capabilities, and so does every task of such a worker: an image can be made to bring
to life what nobody dumped. So it is one group's, and nobody but root may change anything that is loaded with it.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from checkpoint import binary, elf, filecaps
from checkpoint.errors import InstallFailed, Unsupported
from checkpoint.filecaps import NEEDED


def grant(prefix: Path, group: str, *, loader: str, libraries: str) -> str:
    """Have members of `group`, and nobody else, run the CRIU in `prefix` with its capabilities; what was granted.

    `loader` and `libraries` are its own, in `prefix`. InstallFailed says what is in the way; nothing is changed then.
    """
    number = _number(group)
    _require_root()
    _require_guarded(prefix)
    program = binary.program_of(binary.start_of(prefix))
    fresh = program.with_name(f"{program.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        fresh.write_bytes(_bound(program.read_bytes(), prefix / loader, prefix / libraries))
        fresh.chmod(0o700)
        binary.inspect(fresh)
        os.chown(fresh, 0, number)
        fresh.chmod(0o750)
        filecaps.write(fresh, NEEDED)  # last: a change of owner takes them away
        fresh.replace(program)
        _start_directly(binary.start_of(prefix), program)
    except (OSError, ValueError, Unsupported) as problem:
        fresh.unlink(missing_ok=True)
        raise InstallFailed(f"{program} cannot be given capabilities: {problem}") from problem
    return (
        f"{program} has {filecaps.names(NEEDED)}, for members of the group {group} and root alone. Whatever they run, "
        "their workers' tasks included, can make use of both: keep everybody else out of it"
    )


def _bound(program: bytes, loader: Path, libraries: Path) -> bytes:
    if elf.loader(program) == str(loader):
        return program
    return elf.bind(program, loader=loader, libraries=libraries)


def _start_directly(start: Path, program: Path) -> None:
    """Its loader was the one that was started before, and that has no capabilities; nor may it ever."""
    fresh = start.with_name(f"{start.name}.new")
    fresh.write_text(f"#!/bin/sh\nunset LD_PRELOAD LD_LIBRARY_PATH\nexec '{program}' \"$@\"\n")
    fresh.chmod(0o755)
    fresh.replace(start)


def _number(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InstallFailed(
            f"there is no group {group}: groupadd --system {group}, and add the workers' user to it"
        ) from None


def _require_root() -> None:
    if os.geteuid() != 0:
        raise InstallFailed("file capabilities are given by root alone")


def _require_guarded(prefix: Path) -> None:
    """Who could change its loader or a library could do with the capabilities what he likes."""
    if set(":$'") & set(str(prefix)):
        raise InstallFailed(f"{prefix} has a colon, a dollar or a quote in it, which a list of folders cannot hold")
    for path in _loaded_with(prefix):
        if _is_changed_by_others(path):
            raise InstallFailed(
                f"{path} can be changed by others than root, who would have the capabilities too: install to a folder "
                "that is root's alone, as is the default one"
            )


def _loaded_with(prefix: Path) -> Iterator[Path]:
    for named in (prefix, prefix.resolve()):
        yield named
        yield from named.parents
    yield from prefix.rglob("*")


def _is_changed_by_others(path: Path) -> bool:
    found = path.lstat()
    is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    return found.st_uid != 0 or bool(is_open and not stat.S_ISLNK(found.st_mode))
