"""Folders on a tmpfs, for this thread and what it starts from now on: nobody else sees them. For root.

CRIU keeps what it learned about the kernel in /run if that is a tmpfs, as it is on a host. Elsewhere, as in many a
container, each of its calls learns it anew, which may take longer than what is to be measured.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from checkpoint import capability
from workers import namespaces

RUN: Final = Path("/run")


def provide_run() -> None:
    """Have /run on a tmpfs, with all that is in it. Where that is not allowed, it stays as it is."""
    if os.geteuid() == 0 and capability.file_system(str(RUN)) != "tmpfs":
        with suppress(OSError, subprocess.CalledProcessError):
            namespaces.leave_mounts()
            lay_over(RUN, without="criu.kdat.tmp")


def lay_over(folder: Path, *, room: Path | None = None, without: str = "") -> None:
    """Another folder in its place, with the same in it; `room` is where the old one may stand meanwhile."""
    aside = Path(tempfile.mkdtemp(dir=room))
    namespaces.mount("--bind", str(folder), str(aside))
    with ExitStack() as leaving:
        leaving.callback(aside.rmdir)
        leaving.callback(_unmount, aside)
        namespaces.mount("-t", "tmpfs", "-o", "mode=0755", "none", str(folder))
        with ExitStack() as failing:
            failing.callback(_unmount, folder)
            for entry in aside.iterdir():
                if entry.name != without:
                    _lend(entry, folder / entry.name)
            failing.pop_all()


def _lend(entry: Path, place: Path) -> None:
    if entry.is_symlink():
        place.symlink_to(entry.readlink())
        return
    place.mkdir(exist_ok=True) if entry.is_dir() else place.touch()
    namespaces.mount("--bind", str(entry), str(place))


def _unmount(folder: Path) -> None:
    """And what is mounted in it."""
    subprocess.run(["umount", "--recursive", str(folder)], check=True, capture_output=True)
