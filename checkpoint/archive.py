"""The archive: sealed checkpoints in a store, and back from there into a private folder.

What `unpacked` yields was verified whole, and fits this host; nothing else ever reaches CRIU.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checkpoint import pack
from checkpoint.errors import Mismatch, TooLarge
from checkpoint.manifest import Host, Manifest
from checkpoint.pack import Label
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A store, the keys to it, where it is unpacked, and how large an image may be."""

    store: DirectoryStore
    keyring: Keyring
    scratch: Path
    limit: int = pack.LIMIT

    def save(self, label: Label, directory: Path, manifest: Manifest) -> Stored:
        """Seal and store the checkpoint in `directory`. TooLarge if it could not be read back."""
        if manifest.size > self.limit:
            raise TooLarge(f"the images are {manifest.size >> 20} MB, and {self.limit >> 20} MB is allowed")
        fill = partial(pack.pack, directory, manifest, label=label, keyring=self.keyring)
        return self.store.put(label.checkpoint, fill)

    def manifest(self, label: Label) -> Manifest:
        """What is stored under this label, without its images."""
        with self.store.get(label.checkpoint) as source:
            return pack.read_manifest(source, label=label, keyring=self.keyring)

    @contextmanager
    def unpacked(self, label: Label, *, host: Host) -> Iterator[tuple[Path, Manifest]]:
        """The images, in a folder that only this user can enter and that is gone after the block."""
        reason = self.manifest(label).mismatch(host)
        if reason is not None:
            raise Mismatch(f"checkpoint {label.checkpoint} does not fit this host: {reason}")
        with self.private_folder() as folder, self.store.get(label.checkpoint) as source:
            manifest = pack.unpack(source, folder, label=label, keyring=self.keyring, limit=self.limit)
            yield folder, manifest

    @contextmanager
    def private_folder(self) -> Iterator[Path]:
        """For images in the clear: they hold whatever secrets the process had."""
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=self.scratch))  # mkdtemp makes it 0700
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
