"""Where the pages of an image belong: CRIU's `pagemap-PID.img`, beside the `pages-N.img` that holds their content.

Pages lie in the one in the order in which the other lists them. Pages marked as a parent's are looked up at the same
address in the directory named `parent`; this is how CRIU itself chains incremental images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from checkpoint import images, protobuf
from checkpoint.images import Magic

PAGE: Final = 4096
PARENT: Final = 1
"""The content is the parent's."""
PRESENT: Final = 4
"""The content is in the pages file."""

_NAME: Final = re.compile(r"pagemap-\d+\.img")
_PAGES_ID: Final = 1
_ADDRESS, _OLD_COUNT, _FLAGS, _COUNT = 1, 2, 4, 5


class Stretch(NamedTuple):
    """Consecutive pages that are treated alike."""

    address: int
    pages: int
    flags: int

    def addresses(self) -> range:
        return range(self.address, self.address + self.pages * PAGE, PAGE)


@dataclass(frozen=True, slots=True)
class Pagemap:
    """One process's memory, in order of address."""

    pages_id: int
    stretches: tuple[Stretch, ...]

    @classmethod
    def read(cls, path: Path) -> Pagemap:
        """ValueError if it is none."""
        return cls.decode(path.read_bytes(), path.name)

    @classmethod
    def decode(cls, raw: bytes, name: str) -> Pagemap:
        """What a file of this name contains. ValueError if it is none."""
        head, *entries = images.decode(raw, Magic.PAGEMAP, name) or [b""]
        pages_id = protobuf.integer(protobuf.decode(head), _PAGES_ID)
        if not pages_id:
            raise ValueError(f"{name} does not say where its pages are")
        return cls(pages_id, tuple([_usual(entry) or _stretch(entry) for entry in entries]))

    def encode(self) -> bytes:
        """As CRIU reads it."""
        head = protobuf.encode([(_PAGES_ID, self.pages_id)])
        return images.encode([head, *map(_entry, self.stretches)], Magic.PAGEMAP)

    @property
    def file(self) -> str:
        """The name of the file with the content."""
        return f"pages-{self.pages_id}.img"

    def present(self) -> list[int]:
        """The addresses of the pages in that file, in its order."""
        return [address for part in self.stretches if part.flags & PRESENT for address in part.addresses()]


def of(directory: Path) -> list[Path]:
    """The pagemaps of all processes in a directory of images; shared memory has others."""
    return sorted(path for path in directory.iterdir() if is_one(path.name))


def is_one(name: str) -> bool:
    """Whether this is the name of the pagemap of a process."""
    return _NAME.fullmatch(name) is not None


def joined(pages: Iterable[tuple[int, int]]) -> Iterator[Stretch]:
    """Addresses with their flags, in order, as the fewest stretches."""
    address = count = flags = 0
    for next_address, next_flags in pages:
        if count and next_flags == flags and next_address == address + count * PAGE:
            count += 1
            continue
        if count:
            yield Stretch(address, count, flags)
        address, count, flags = next_address, 1, next_flags
    if count:
        yield Stretch(address, count, flags)


def _stretch(entry: bytes) -> Stretch:
    fields = protobuf.decode(entry)
    pages = protobuf.integer(fields, _COUNT) or protobuf.integer(fields, _OLD_COUNT)
    return Stretch(protobuf.integer(fields, _ADDRESS), pages, protobuf.integer(fields, _FLAGS))


# There are thousands of entries in the map of a reduced image, and byte by byte in Python each takes ten times as long
# as with a look at what they have in common: addresses end with twelve zero bits, and begin like their neighbours'.


def _usual(entry: bytes) -> Stretch | None:
    """The entry, if it has the form that CRIU and we give it."""
    found = _USUAL.fullmatch(entry)
    if found is None:
        return None
    low, middle, high, flags, pages = found.groups()
    address = (low[0] & 0x60) << 7 | (middle[0] & 0x7F) << 14 | _number(high) << 21
    return Stretch(address, _number(pages), flags[0])


def _entry(stretch: Stretch) -> bytes:
    address, pages, flags = stretch
    low, middle = 0x80 | address >> 7 & 0x60, 0x80 | address >> 14 & 0x7F
    return b"\x08\x80%c%c%b\x10\x00\x20%c\x28%b" % (low, middle, _varint(address >> 21), flags, _varint(pages))


_USUAL: Final = re.compile(
    rb"\x08\x80([\x80\xa0\xc0\xe0])([\x80-\xff])([\x80-\xff]*[\0-\x7f])\x10\0\x20([\0-\x7f])\x28([\x80-\xff]*[\0-\x7f])"
)


@lru_cache(maxsize=4096)
def _number(varint: bytes) -> int:
    return protobuf.read_varint(varint, 0)[0]


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    return protobuf.varint(number)
