"""Images from folder to folder, always whole and always in the same form, so that a seal over them holds.

A worker stores images reduced by a base (`checkpoint.base`), and gets them back with the base as their parent. Here
they are put together again; and since a reduced map of pages does not tell how CRIU had divided it, maps are brought
to one form, the shortest, before they are sealed.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from checkpoint import pagemap
from checkpoint.errors import Damaged, TooLarge
from checkpoint.pack import LIMIT, is_image
from checkpoint.pagemap import PAGE, PARENT, PRESENT, Pagemap, Stretch

_MOST: Final = 20_000
_MOST_MAPPED: Final = 16 << 20
"""Bytes of maps: some twenty tell of a stretch of pages, and a large process has some thousand."""
_PARENT: Final = "parent"


def settle(folder: Path) -> None:
    """Bring the maps of pages that CRIU has just written to their one form."""
    for path in pagemap.of(folder):
        path.write_bytes(_settled(Pagemap.read(path)).encode())


def copy(source: Path, target: Path, *, limit: int = LIMIT) -> None:
    """Copy the images to an empty folder. Damaged or TooLarge if they are none."""
    names = sorted(filter(is_image, os.listdir(source)))
    if len(names) > _MOST:
        raise TooLarge(f"the image has {len(names)} files, and {_MOST} are allowed")
    maps = _maps(source, filter(pagemap.is_one, names)) if (source / _PARENT).is_dir() else {}
    lent = _maps(source / _PARENT, maps)
    reduced = {found.file: name for name, found in maps.items()}
    for name in names:
        with _read(source / name) as old, _written(target / name) as new:
            if name in reduced:
                own = reduced[name]
                limit -= _join(old, new, maps[own], lent[own], source / _PARENT, limit)
            else:
                limit -= _pour(old, new, limit)
    for name, found in maps.items():
        (target / name).write_bytes(_settled(found).encode())


def _settled(found: Pagemap) -> Pagemap:
    """All of it present, in the fewest stretches. What else CRIU marks is for pages that are fetched later."""
    stretches: list[Stretch] = []
    for address, pages, _ in found.stretches:
        last = stretches[-1] if stretches else None
        if last is not None and last.address + last.pages * PAGE == address:
            stretches[-1] = Stretch(last.address, last.pages + pages, PRESENT)
        else:
            stretches.append(Stretch(address, pages, PRESENT))
    return replace(found, stretches=tuple(stretches))


def _maps(folder: Path, names: Iterable[str]) -> dict[str, Pagemap]:
    """These maps of pages, which somebody else wrote. TooLarge if they are larger than CRIU's are by far."""
    found, left = {}, _MOST_MAPPED
    for name in names:
        with _read(folder / name) as descriptor, open(descriptor, "rb", closefd=False) as file:
            raw = file.read(left + 1)
        left -= len(raw)
        if left < 0:
            raise TooLarge(f"the image has maps of more than {_MOST_MAPPED >> 20} MB: it is none of CRIU's")
        found[name] = Pagemap.decode(raw, name)
    return found


def _join(own: int, new: int, ours: Pagemap, theirs: Pagemap, parent: Path, limit: int) -> int:
    """Write a process's own pages and its parent's in the order of their addresses; how many bytes."""
    places = _Places(theirs.stretches)
    written = 0
    with _read(parent / theirs.file, links=True) as lent:  # a base is kept once, and linked to
        for address, pages, flags in ours.stretches:
            written += pages * PAGE
            if written > limit:
                raise TooLarge("the image is larger than the helper takes")
            if flags & PARENT:
                for offset, size in places.of(address, pages * PAGE):
                    _send(lent, new, size, offset)
            else:
                _send(own, new, pages * PAGE)
    return written


class _Places:
    """Where in a file of pages those of an address are."""

    def __init__(self, stretches: tuple[Stretch, ...]) -> None:
        self._stretches = stretches
        self._starts = [stretch.address for stretch in stretches]
        self._offsets = [0]
        for stretch in stretches:
            self._offsets.append(self._offsets[-1] + stretch.pages * PAGE)

    def of(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """The pieces, offset and size, that these bytes consist of. Damaged if they are not all there."""
        while size:
            found = bisect_right(self._starts, address) - 1
            inside = address - self._starts[found] if found >= 0 else 0
            piece = min(size, self._stretches[found].pages * PAGE - inside) if found >= 0 else 0
            if piece <= 0:
                raise Damaged(f"the base has no page at {address:#x}, which the image leaves out")
            yield self._offsets[found] + inside, piece
            address, size = address + piece, size - piece


def _pour(old: int, new: int, limit: int) -> int:
    size = os.fstat(old).st_size
    if size > limit:
        raise TooLarge("the image is larger than the helper takes")
    _send(old, new, size)
    return size


def _send(old: int, new: int, size: int, offset: int | None = None) -> None:
    """So many bytes, from where the file is or from an offset."""
    while size:
        sent = os.sendfile(new, old, offset, size)
        if not sent:
            raise Damaged("a file of the image is shorter than it should be")
        offset = None if offset is None else offset + sent
        size -= sent


@contextmanager
def _read(path: Path, *, links: bool = False) -> Iterator[int]:
    """A plain file: nothing that blocks, and no link unless they are expected."""
    follow = 0 if links else os.O_NOFOLLOW
    descriptor = os.open(path, os.O_RDONLY | follow | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Damaged(f"{path.name} is no plain file")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _written(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
