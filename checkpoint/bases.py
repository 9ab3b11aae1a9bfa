"""The bases: each stored once, sealed, and unpacked once per host, where whoever dumps or restores maps it.

Who uses an unpacked base holds it (`checkpoint.use`). What nobody holds makes room whenever another base comes.
A base that is in neither place is Missing: the images that need it are of no use, and their runs are re-entered.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from checkpoint import base as files
from checkpoint import pack, use
from checkpoint.base import Base
from checkpoint.errors import Damaged, Exists, Missing, StoreFailed
from checkpoint.pack import Label
from checkpoint.seal import Keyring
from checkpoint.store import Store

_NAME: Final = "base"
_UNUSED: Final = 3600.0
"""Seconds after its last use that a base nobody holds stays."""
_FETCHERS: Final = 100
"""More than there are slots that restore images of one base at the same moment."""
_SPARE: Final = 512 << 20
"""What bases that nobody holds may take together; one of a Django app has 75 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """Where bases are stored, the keys, and the local folder they are unpacked in."""

    store: Store
    keyring: Keyring
    folder: Path

    def make(self, directory: Path) -> Base:
        """A base of the images of one process, here only. It is stored with the first checkpoint that needs it."""
        self._prepare()
        return Base.make(directory, self.folder)

    def open(self, digest: str) -> Base:
        """The base, fetched if it is not here."""
        path = files.place_of(digest, self.folder)
        try:
            found = _opened(path, digest)
        except (FileNotFoundError, Damaged):
            return self._fetch(path, digest)
        with suppress(FileNotFoundError):  # somebody fetched it anew, because of damage that we did not see
            os.utime(path)
        return found

    def keep(self, base: Base) -> None:
        """Have it in the store."""
        try:
            self.store.look(base.id)
        except Missing:
            with suppress(Exists):
                self.store.put(base.id, lambda sink: self._pack(base, sink))

    def _pack(self, base: Base, sink: BinaryIO) -> None:
        with base.path.open("rb") as file:
            pack.pack_file(sink, file, _NAME, base.size, label=_label(base.id), keyring=self.keyring)

    def _fetch(self, path: Path, digest: str) -> Base:
        self._prepare()
        try:
            source = self.store.get(files.id_of(digest))
        except Missing as problem:
            raise Missing(f"base {digest[:12]}, without which the image is of no use, is not in the store") from problem
        with source, self._part() as part:
            label = _label(files.id_of(digest))
            for piece in pack.unpack_file(source, _NAME, label=label, keyring=self.keyring, limit=pack.LIMIT):
                part.write(piece)
            files.add_hole(part)
            os.replace(part.name, path)
            return _opened(path, digest)

    @contextmanager
    def _part(self) -> Iterator[BinaryIO]:
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as file:
                use.hold(file)
                try:
                    yield file  # type: ignore[misc]  # a wrapper around one
                finally:
                    with suppress(FileNotFoundError):
                        os.unlink(file.name)
        except OSError as problem:
            raise StoreFailed(f"a base could not be unpacked in {self.folder}: {problem.strerror}") from problem

    def _prepare(self) -> None:
        """The folder, with room for another base."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_room(self.folder)


def _opened(path: Path, digest: str) -> Base:
    """Who fetches it too puts another file in its place, perhaps just before ours is held: then that one is ours."""
    for _ in range(_FETCHERS):
        try:
            return Base.open(path, digest)
        except FileNotFoundError:
            if not path.exists():
                raise
    return Base.open(path, digest)


def make_room(folder: Path) -> None:
    """Delete what nobody holds, the least recently used first, but what was used of late and is not too much."""
    limit, spare = time.time() - _UNUSED, 0
    for used, size, path in sorted(_unpacked(folder), reverse=True):
        if use.is_held(path):
            continue
        spare += size
        if used < limit or spare > _SPARE:
            use.discard(path)


def _unpacked(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was used last, and its size; also what somebody was unpacking who died."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found = path.stat()
            yield found.st_mtime, found.st_blocks * 512, path


def _label(id: UUID) -> Label:
    """What the seal of a base is bound to: itself alone."""
    return Label(checkpoint=id, run=UUID(int=0), sequence=0, lease=0)
