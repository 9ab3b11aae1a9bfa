"""The base: the memory of a zygote, stored once, that images of the processes forked from it leave out.

A fork keeps most pages as its zygote had them, at the same addresses. Those are not stored again: an image is reduced
to the pages that differ, and CRIU finds the rest in the base, as it does in the parent of an incremental image. What
differs differs in a few words of a page; `checkpoint.delta` makes use of that.

A base is one file: the pages, a table of where they belong, and the table's length. It is named by the digest of all.
Whoever has it open holds it (`checkpoint.use`): a base that somebody uses is not deleted. On a host a hole follows,
which takes no room: processes may have the file mapped (`checkpoint.graft`), and where such memory grows it must not
reach the file's end.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, Final
from uuid import UUID

from checkpoint import pagemap, use
from checkpoint.errors import Damaged, StoreFailed
from checkpoint.pagemap import PAGE, PARENT, PRESENT, Pagemap, Stretch

_SUFFIX: Final = ".base"
_FOOT: Final = struct.Struct("<Q8s")
_ROW: Final = struct.Struct("<QQ")
_MAGIC: Final = b"CKPTBAS1"
_HOLE: Final = 64 << 30
_AT_ONCE: Final = 256
_OWN, _SAME = b"o", b"s"
_RUN: Final = re.compile(b"o+")
_GAP: Final = re.compile(b"(?<=o)s{1,4}(?=o)")
"""So few of the same between two that are not stay in: CRIU takes time for each stretch, and they pack to nothing."""
_PARENT: Final = "parent"
"""CRIU's name for the directory of an incremental image's parent."""


@dataclass(frozen=True, slots=True)
class Base:
    """One base, opened; its file was verified, and is held for as long as this lives."""

    path: Path
    digest: str
    stretches: tuple[Stretch, ...]
    pages: memoryview
    places: dict[int, int]
    """Where in `pages` the page of an address is."""

    @classmethod
    def make(cls, directory: Path, folder: Path) -> Base:
        """Of the images of one process in `directory`, a file in `folder`."""
        maps = pagemap.of(directory)
        if len(maps) != 1:
            raise ValueError(f"{directory} has {len(maps)} processes; a base is made of one")
        found = Pagemap.read(maps[0])
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            try:
                use.hold(file)
                _write(file, directory / found.file, found)
                file.flush()
                digest = _digest_of(file)
                add_hole(file)
                path = place_of(digest, folder)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
            return cls.open(path, digest)

    @classmethod
    def open(cls, path: Path, digest: str) -> Base:
        """Damaged if the file is not the one with this digest, OSError if there is none."""
        found = path.stat()
        return _open(path, digest, found.st_dev, found.st_ino, found.st_size)

    @property
    def id(self) -> UUID:
        """What a store knows it by."""
        return id_of(self.digest)

    @property
    def size(self) -> int:
        """In bytes, without the hole."""
        return len(self.pages)

    def has_hole(self) -> bool:
        """Whether processes may have it mapped."""
        return self.path.stat().st_size > self.size

    def page(self, address: int) -> memoryview | None:
        """The page at this address, if the base has one."""
        place = self.places.get(address)
        return None if place is None else self.pages[place : place + PAGE]

    def reduce(self, directory: Path) -> None:
        """Take out of the images in `directory` every page that is the same here."""
        try:
            for path in pagemap.of(directory):
                self._reduce(path)
        except OSError as problem:
            raise StoreFailed(f"the images in {directory} could not be reduced: {problem.strerror}") from problem
        except ValueError as problem:
            raise Damaged(f"the images in {directory} are not as CRIU leaves them: {problem}") from problem

    def lend(self, directory: Path) -> None:
        """Make this the parent of the reduced images in `directory`."""
        parent = directory / _PARENT
        parent.mkdir(mode=0o700)
        own = Pagemap(1, self.stretches)
        (parent / own.file).symlink_to(self.path.absolute())
        for path in pagemap.of(directory):
            (parent / path.name).write_bytes(own.encode())

    def _reduce(self, path: Path) -> None:
        found = Pagemap.read(path)
        pages = path.with_name(found.file)
        part = pages.with_suffix(".part")
        with pages.open("rb", buffering=0) as source, part.open("wb") as sink:
            marks = _GAP.sub(lambda gap: _OWN * len(gap[0]), self._compared(found.stretches, source))
            _copy_own(marks, source, sink)
        part.replace(pages)
        flags = (stretch.flags for stretch in found.stretches for _ in range(stretch.pages))
        pages_of = zip(found.present(), flags, marks, strict=True)
        kept = ((address, own if mark == _OWN[0] else PARENT) for address, own, mark in pages_of)
        path.write_bytes(Pagemap(found.pages_id, tuple(pagemap.joined(kept))).encode())

    def _compared(self, stretches: tuple[Stretch, ...], source: BinaryIO) -> bytes:
        """For each page a letter: whether it is the same here."""
        pages, places = self.pages, self.places
        marks = bytearray()
        for address, chunk in _chunks(stretches, source):
            for at in range(0, len(chunk), PAGE):
                place = places.get(address + at)
                # startswith compares in place; == of memoryviews goes byte by byte, and slices of bytes copy
                same = place is not None and chunk.startswith(pages[place : place + PAGE], at)
                marks += _SAME if same else _OWN
        return bytes(marks)


def id_of(digest: str) -> UUID:
    """The id of the base with this digest."""
    return UUID(bytes=bytes.fromhex(digest)[:16])


def place_of(digest: str, folder: Path) -> Path:
    """Where the base with this digest is unpacked."""
    return folder / f"{digest}{_SUFFIX}"


def add_hole(file: IO[bytes]) -> None:
    """Make a base that was written whole one that can be mapped, unless its folder takes no such file."""
    file.flush()
    with suppress(OSError):
        os.truncate(file.fileno(), os.fstat(file.fileno()).st_size + _HOLE)


def _size_of(file: IO[bytes]) -> int:
    size = os.fstat(file.fileno()).st_size
    return size - _HOLE if size > _HOLE else size


def _digest_of(file: IO[bytes]) -> str:
    """What names a base; there may be no hole behind it yet."""
    with mmap.mmap(file.fileno(), _size_of(file), prot=mmap.PROT_READ) as content:
        return hashlib.sha256(content).hexdigest()


def _write(file: IO[bytes], pages: Path, found: Pagemap) -> None:
    held = [stretch for stretch in found.stretches if stretch.flags & PRESENT]
    if sum(stretch.pages for stretch in held) * PAGE != pages.stat().st_size:
        raise ValueError(f"{pages.name} has not the pages that its map lists")
    with pages.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)
    for stretch in held:
        file.write(_ROW.pack(stretch.address, stretch.pages))
    file.write(_FOOT.pack(len(held), _MAGIC))


# A process sees few zygotes in its life, and comes back to the same base for each run.
@lru_cache(maxsize=4)
def _open(path: Path, digest: str, device: int, inode: int, size: int) -> Base:
    with path.open("rb") as file:
        use.hold(file)
        if not _size_of(file) or _digest_of(file) != digest:  # nothing cannot be mapped
            raise Damaged(f"the base in {path} is not the one of that name")
        # A mapping has a copy of the descriptor, and with it the lock, until it is gone.
        raw = memoryview(mmap.mmap(file.fileno(), _size_of(file), prot=mmap.PROT_READ))
    stretches = tuple(_table(raw))
    return Base(path, digest, stretches, raw, dict(_places(stretches)))


def _table(raw: memoryview) -> Iterator[Stretch]:
    if len(raw) < _FOOT.size or bytes(raw[-8:]) != _MAGIC:
        raise Damaged("the base has no table")
    (rows, _) = _FOOT.unpack_from(raw, len(raw) - _FOOT.size)
    start = len(raw) - _FOOT.size - rows * _ROW.size
    for address, count in _ROW.iter_unpack(raw[start : len(raw) - _FOOT.size]):
        yield Stretch(address, count, PRESENT)


def _places(stretches: tuple[Stretch, ...]) -> Iterator[tuple[int, int]]:
    addresses = (address for stretch in stretches for address in stretch.addresses())
    return ((address, number * PAGE) for number, address in enumerate(addresses))


def _chunks(stretches: tuple[Stretch, ...], source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """What the pages file holds, in pieces with their addresses."""
    for stretch in stretches:
        if not stretch.flags & PRESENT:
            raise ValueError("the image is reduced already")
        for first in range(0, stretch.pages, _AT_ONCE):
            size = min(_AT_ONCE, stretch.pages - first) * PAGE
            chunk = source.read(size)
            if len(chunk) != size:
                raise ValueError("the image has not the pages that its map lists")
            yield stretch.address + first * PAGE, chunk


def _copy_own(marks: bytes, source: BinaryIO, sink: BinaryIO) -> None:
    for own in _RUN.finditer(marks):
        source.seek(own.start() * PAGE)
        sink.write(source.read(len(own[0]) * PAGE))
