"""A run process into an image of the store, and back from there."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import checkpoint
from checkpoint import Base, Label, Manifest, Missing, Sandbox, processes
from triggerapp.engine.checkpoints import Made, Taken
from triggerapp.failpoints import point
from workers import images
from workers.images import Images

log = logging.getLogger(__name__)

_PID_IS_FREE: Final = 5.0
"""Seconds for the worker that dumped a process to end it, before its pid counts as taken."""


def dump(process: Sandbox, label: Label, *, base: str | None) -> Made:
    """Store an image of the process, which stands still, without what it has in common with the base.

    It stays stopped; a CheckpointError or OSError may leave it so too.
    """
    mine, started = images.here(), time.monotonic()
    with mine.archive.private_folder() as folder:
        point("dump.before")
        mine.criu.dump(process.pid, folder, external=[process.inode])
        point("dump.after")
        image_size = sum(path.stat().st_size for path in folder.glob("*.img"))
        manifest = _describe(mine, process, folder, base)
        point("store.before")
        stored = mine.archive.save(label, folder, manifest)
    point("store.after")
    return Made(
        id=label.checkpoint,
        sequence=label.sequence,
        host=mine.host.name,
        pid=process.pid,
        pipe=process.pipe,
        size=stored.size,
        image_size=image_size,
        took=timedelta(seconds=time.monotonic() - started),
    )


def _describe(mine: Images, process: Sandbox, folder: Path, base: str | None) -> Manifest:
    used = _base(mine, base)
    if used is not None:
        used.reduce(folder)
    return Manifest.describe(process.pid, folder, control=process.inode, host=mine.host, base=used)


def _base(mine: Images, digest: str | None) -> Base | None:
    """None if it is lost, as by somebody who tidies the temporary folder: the image is whole then."""
    if digest is None:
        return None
    try:
        return mine.archive.bases.open(digest)
    except Missing as problem:
        log.warning("an image is stored whole: %s", problem)
        return None


def thaw(taken: Taken, *, run: UUID) -> tuple[Sandbox, str | None]:
    """The process of an image, standing still, and its base. Raises CheckpointError or OSError."""
    mine = images.here()
    label = Label(checkpoint=taken.id, run=run, sequence=taken.sequence, lease=taken.lease)
    _await_free(taken.pid)
    point("fetch.before")
    with (
        checkpoint.Thaw(mine.criu) as restore,  # CRIU starts while the image is fetched
        mine.archive.unpacked(label, host=mine.host) as (folder, manifest),
    ):
        point("restore.before")
        process = restore(folder, control=manifest.control, pipe=taken.pipe)
    return process, manifest.base


def parent_of(pid: int) -> int:
    """The process that it was forked from, while that lives; 0 if it is gone itself."""
    task = processes.look(pid)
    return 0 if task is None else task.parent


def _await_free(pid: int) -> None:
    """A run may be woken before the process that was dumped has ended, two lines further on in its supervisor."""
    deadline = time.monotonic() + _PID_IS_FREE
    while processes.look(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.002)
