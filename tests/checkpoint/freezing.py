"""Freezing and thawing as a supervisor does it, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from checkpoint.archive import Archive
from checkpoint.base import Base
from checkpoint.driver import Driver
from checkpoint.line import Line
from checkpoint.manifest import Host, Manifest
from checkpoint.pack import Label
from checkpoint.sandbox import Sandbox
from checkpoint.store import Stored

SOON = timedelta(seconds=120)
"""As late as it may be on a machine that is busy with other things."""


def until(what: Callable[[], bool]) -> bool:
    """Whether it comes true soon."""
    deadline = time.monotonic() + SOON.total_seconds()
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezer:
    """A CRIU and an archive."""

    criu: Driver
    archive: Archive

    @property
    def host(self) -> Host:
        return Host.here(criu=self.criu.version, mode=self.criu.mode.value)

    def make_base(self, process: Sandbox) -> Base:
        """Of a process that stands still; it is ended."""
        process.await_park(timeout=SOON)
        with self.archive.private_folder() as images:
            self.criu.dump(process.pid, images, external=[process.inode], timeout=SOON)
            process.end()
            return self.archive.bases.make(images)

    def freeze(self, process: Sandbox, *, base: Base | None = None, label: Label | None = None) -> tuple[Label, Stored]:
        """Store a process that stands still, and end it."""
        label = label or make_label()
        with self.archive.private_folder() as images:
            self.criu.dump(process.pid, images, external=[process.inode], timeout=SOON)
            if base:
                base.reduce(images)
            manifest = Manifest.describe(process.pid, images, control=process.inode, host=self.host, base=base)
            stored = self.archive.save(label, images, manifest)
        process.end()
        return label, stored

    def thaw(self, label: Label, payload: bytes = b"", *, timeout: timedelta = SOON) -> Sandbox:
        """The process of a stored checkpoint, going on."""
        ours, theirs = Line.pair()
        try:
            with self.archive.unpacked(label, host=self.host) as (images, manifest):
                inherit = {f"socket:[{manifest.control}]": theirs.fileno()}
                pid = self.criu.restore(images, inherit=inherit, timeout=timeout)
        except BaseException:
            ours.close()
            raise
        finally:
            inode = theirs.inode()
            theirs.close()
        process = Sandbox(pid, ours, inode)
        process.wake(payload, restored=True)
        return process


def make_label() -> Label:
    return Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
