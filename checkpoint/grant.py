"""CRIU's own capabilities, for workers that have none: what is written to its file, and who may execute it.

Whoever may execute it holds these capabilities, and so does every task of such a worker: an image can be made to bring
to life what nobody dumped. So it is one group's, and nobody but root may change anything that is loaded with it.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from checkpoint import binary, elf, filecaps
from checkpoint.errors import InstallFailed, Unsupported
from checkpoint.filecaps import NEEDED


def guarded(prefix: Path, group: str) -> Path:
    """`prefix` without symlinks: root's alone, so that root may execute what is there and `group` be granted it.

    InstallFailed says what is in the way.
    """
    _require_root()
    _number(group)
    prefix = prefix.resolve()
    _require_guarded(prefix)
    return prefix


def grant(prefix: Path, group: str, *, loader: str, libraries: str) -> str:
    """Have members of `group`, and nobody else, run the CRIU in `prefix` with its capabilities; what was granted.

    `loader` and `libraries` are its own, in `prefix`. InstallFailed says what is in the way; nothing is changed then.
    """
    prefix = guarded(prefix, group)
    start = binary.start_of(prefix)
    program = binary.program_of(start)
    if program == start:
        raise InstallFailed(f"{start} was not brought by the installer, which gives capabilities to its own alone")
    new_program, new_start = (path.with_name(f"{path.name}.new") for path in (program, start))
    try:
        _write_program(new_program, _bound(program.read_bytes(), prefix / loader, prefix / libraries), _number(group))
        _write_start(new_start, program)
        new_program.replace(program)  # the old script can start it; the new one could not have started the old
        new_start.replace(start)
    except (OSError, ValueError, Unsupported) as problem:
        for new in (new_program, new_start):
            with suppress(OSError):
                new.unlink()
        raise InstallFailed(f"{program} cannot be given capabilities: {problem}") from problem
    return (
        f"{program} has {filecaps.names(NEEDED)}, for members of the group {group} and root alone. Whatever they run, "
        "their workers' tasks included, can make use of both: keep everybody else out of it"
    )


def _bound(program: bytes, loader: Path, libraries: Path) -> bytes:
    if elf.loader(program) == str(loader):
        return program
    return elf.bind(program, loader=loader, libraries=libraries)


def _write_program(path: Path, content: bytes, group: int) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o700)
    binary.inspect(path)
    os.chown(path, 0, group)
    path.chmod(0o750)
    filecaps.write(path, NEEDED)  # last: a change of owner takes them away


def _write_start(path: Path, program: Path) -> None:
    """Its loader was the one that was started before, and that has no capabilities; nor may it ever."""
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\nunset LD_PRELOAD LD_LIBRARY_PATH\nexec '{program}' \"$@\"\n")
    path.chmod(0o755)


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
    changed = changed_by_others(prefix)
    if changed is not None:
        raise InstallFailed(
            f"{changed} can be changed by others than root, who would have the capabilities too: install to a folder "
            "that is root's alone, as is the default one"
        )


def changed_by_others(prefix: Path, *, below: bool = True) -> Path | None:
    """What others than root can change on the way to `prefix`, in it and below it; None if there is nothing."""
    return next(_changed_by_others(prefix, below), None)


def _changed_by_others(prefix: Path, below: bool) -> Iterator[Path]:
    """Of all that is loaded, and the folders on the way there.

    To a sticky folder others can add, and change nothing that is there. So it is one only on the way to what is there.
    """
    there = next(path for path in (prefix, *prefix.parents) if path.exists())
    yield from (folder for folder in there.parents if _is_changed_by_others(folder, unless=stat.S_ISVTX))
    yield from (path for path in (there, *(prefix.rglob("*") if below else ())) if _is_changed_by_others(path))


def _is_changed_by_others(path: Path, *, unless: int = 0) -> bool:
    found = path.lstat()
    is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & unless
    return found.st_uid != 0 or bool(is_open and not stat.S_ISLNK(found.st_mode))
