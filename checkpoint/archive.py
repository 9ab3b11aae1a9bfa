"""The archive: sealed checkpoints in a store, and back from there into a private folder.

What `unpacked` yields was verified whole, and fits this host; nothing else ever reaches CRIU.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checkpoint import pack, quota
from checkpoint.base import Base
from checkpoint.bases import Bases
from checkpoint.errors import Mismatch, StoreFailed, TooLarge
from checkpoint.manifest import Host, Manifest
from checkpoint.pack import Label
from checkpoint.seal import Keyring
from checkpoint.store import Store, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A store, the keys to it, where it is unpacked, how large an image may be and how much the store may hold."""

    store: Store
    keyring: Keyring
    scratch: Path
    limit: int = pack.LIMIT
    quota: int | None = None

    @property
    def bases(self) -> Bases:
        """The bases that images here are reduced by."""
        return Bases(store=self.store.beside("bases"), keyring=self.keyring, folder=self.scratch / "bases")

    def save(self, label: Label, directory: Path, manifest: Manifest) -> Stored:
        """Seal and store the checkpoint in `directory`, and the base it needs.

        TooLarge if it could not be read back, QuotaExceeded if there is no room for it.
        """
        if manifest.size > self.limit:
            raise TooLarge(
                f"{manifest.size >> 20} MB of the process are not its zygote's, and {self.limit >> 20} MB is allowed: "
                "have it hold less at its waits, or raise the limit (CHECKPOINT_MAX_BYTES)"
            )
        if self.quota is not None:
            quota.require_room(self.store, self.quota)
        base = self.bases.open(manifest.base) if manifest.base else None
        fill = partial(pack.pack, directory, manifest, label=label, keyring=self.keyring, base=base)
        stored = self.store.put(label.checkpoint, fill)
        quota.note(self.store, stored.size)
        if base is not None:
            self._keep(base, label)
        return stored

    def manifest(self, label: Label) -> Manifest:
        """What is stored under this label, without its images."""
        with self.store.get(label.checkpoint) as source:
            return pack.read_manifest(source, label=label, keyring=self.keyring)

    def verify(self, label: Label) -> Manifest:
        """Read all of it, and say nothing if it is as it was stored: Missing, Damaged or UnknownKey if not."""
        with self.private_folder() as folder:
            return self._unpack(label, folder)

    @contextmanager
    def unpacked(self, label: Label, *, host: Host) -> Iterator[tuple[Path, Manifest]]:
        """The images, in a folder that only this user can enter and that is gone after the block."""
        reason = self.manifest(label).mismatch(host)
        if reason is not None:
            raise Mismatch(f"checkpoint {label.checkpoint} does not fit this host: {reason}")
        with self.private_folder() as folder:
            manifest = self._unpack(label, folder)
            yield folder, manifest

    def _unpack(self, label: Label, folder: Path) -> Manifest:
        open_base = self.bases.open
        try:
            with self.store.get(label.checkpoint) as source:
                manifest = pack.unpack(
                    source, folder, label=label, keyring=self.keyring, limit=self.limit, open_base=open_base
                )
            if manifest.base:
                _lend(open_base(manifest.base), manifest, folder)
        except OSError as problem:
            message = f"checkpoint {label.checkpoint} could not be unpacked in {self.scratch}: {problem.strerror}"
            raise StoreFailed(message) from problem
        return manifest

    def _keep(self, base: Base, label: Label) -> None:
        """Only after the checkpoint is there: who collects bases looks at checkpoints last."""
        try:
            self.bases.keep(base)
        except BaseException:
            self.store.delete(label.checkpoint)
            raise

    @contextmanager
    def private_folder(self) -> Iterator[Path]:
        """For images in the clear: they hold whatever secrets the process had."""
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=self.scratch))  # mkdtemp makes it 0700
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _lend(base: Base, manifest: Manifest, folder: Path) -> None:
    here = os.path.realpath(base.path)
    if manifest.grafted not in (None, here):
        raise Mismatch(f"its process has {manifest.grafted} mapped, and here that is {here}: set the same TMPDIR")
    base.lend(folder)
