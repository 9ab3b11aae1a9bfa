"""CRIU's own image files, read and written without CRIU: a head of two magic numbers, then entries after their length.

The numbers are those of `criu/include/magic.h`, the fields of an entry those of `images/*.proto` in CRIU's sources.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from checkpoint import protobuf

_COMMON: Final = 0x54564319
_PID: Final = 1
_SIZE: Final = struct.Struct("<I")


class Magic(Enum):
    """What an image file begins with."""

    CORE = struct.pack("<II", _COMMON, 0x55053847)
    PSTREE = struct.pack("<II", _COMMON, 0x50273030)
    PAGEMAP = struct.pack("<II", _COMMON, 0x56084025)


def pids(directory: Path) -> list[int]:
    """The processes in this image, the first one their root. ValueError or OSError if it is no image."""
    found = [protobuf.integer(protobuf.decode(entry), _PID) for entry in read(directory / "pstree.img", Magic.PSTREE)]
    if not found:
        raise ValueError("pstree.img names no process")
    return found


def read(path: Path, magic: Magic) -> list[bytes]:
    """The entries of an image file. ValueError if it is of another kind or cut short."""
    return decode(path.read_bytes(), magic, path.name)


def decode(raw: bytes, magic: Magic, name: str) -> list[bytes]:
    """The entries of what an image file of this name contains. ValueError as above."""
    if not raw.startswith(magic.value):
        raise ValueError(f"{name} is no {magic.name.lower()} image")
    entries = []
    at = len(magic.value)
    while at < len(raw):
        (size,) = _SIZE.unpack_from(raw, at) if at + _SIZE.size <= len(raw) else (1 << 32,)
        at += _SIZE.size
        if at + size > len(raw):
            raise ValueError(f"{name} is cut short")
        entries.append(raw[at : at + size])
        at += size
    return entries


def encode(entries: Iterable[bytes], magic: Magic) -> bytes:
    """An image file of these entries."""
    return magic.value + b"".join(_SIZE.pack(len(entry)) + entry for entry in entries)
