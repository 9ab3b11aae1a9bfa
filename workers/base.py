"""The base of a worker's images: what its run processes have in common, dumped once per zygote.

Which one it is, is written to a file in the worker's folder when it is done.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import time
from pathlib import Path
from typing import Final

import checkpoint
from checkpoint import Base, Zygote, graft, processes
from triggerapp import conf
from workers import identity, images

log = logging.getLogger("triggerapp.zygote")

_PR_SET_PDEATHSIG: Final = 1
_SETTLES: Final = 5.0
"""Seconds that a new run process has to be waiting for its first job."""


def make(home: Path, zygote: int) -> None:
    """Dump a run process that has done nothing yet, and keep its memory as the base."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    identity.settle(home)
    mine = images.here()
    process = Zygote(home / "zygote").fork()
    try:
        _await_idle(process.pid)
        with mine.archive.private_folder() as folder:
            mine.criu.dump(process.pid, folder, external=[process.inode])
            base = mine.archive.bases.make(folder)
    finally:
        process.end()
    part = home / f"base-{zygote}.part"
    part.write_text(base.digest)
    part.rename(_file(home, zygote))
    if conf.get().CHECKPOINT_BASE == "mapped":
        _graft(zygote, base)


def _graft(zygote: int, base: Base) -> None:
    """What it forks from now on has the base mapped; what it forked before has a copy."""
    try:
        size = graft.graft(zygote, base)
    except (checkpoint.Unsupported, PermissionError) as problem:
        log.warning("the base is copied, not mapped: %s", problem)
    else:
        log.info("%s MB of the zygote are its base's, mapped", size >> 20)


def of(home: Path, zygote: int) -> str | None:
    """The digest of this zygote's base; None if it is not made yet."""
    try:
        return _file(home, zygote).read_text()
    except FileNotFoundError:
        return None


def made(home: Path) -> list[str]:
    """The digests of all bases of this worker."""
    return [path.read_text() for path in home.glob("base-*[0-9]")]


def _file(home: Path, zygote: int) -> Path:
    return home / f"base-{zygote}"


def _await_idle(pid: int) -> None:
    """Until it sleeps, and has slept for a moment."""
    deadline = time.monotonic() + _SETTLES
    before = -1
    while time.monotonic() < deadline:
        time.sleep(0.05)
        task = processes.look(pid)
        used = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) if task else 0
        if task is not None and task.state == "S" and used == before:
            return
        before = used
