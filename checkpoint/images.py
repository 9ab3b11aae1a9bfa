"""What is read from CRIU's own image files before CRIU itself does: which pids an image wants.

Each file begins with two magic numbers (`criu/include/magic.h`); then come entries, each after its length. The fields
of an entry are those of `images/pstree.proto`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from checkpoint import protobuf

_MAGIC: Final = struct.pack("<II", 0x54564319, 0x50273030)
_PID: Final = 1


def pids(directory: Path) -> list[int]:
    """The processes in this image, the first one their root. ValueError or OSError if it is no image."""
    raw = (directory / "pstree.img").read_bytes()
    if raw[: len(_MAGIC)] != _MAGIC:
        raise ValueError("pstree.img is no list of processes")
    found = [protobuf.integer(protobuf.decode(entry), _PID) for entry in _entries(raw)]
    if not found:
        raise ValueError("pstree.img names no process")
    return found


def _entries(raw: bytes) -> list[bytes]:
    entries = []
    at = len(_MAGIC)
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at) if at + 4 <= len(raw) else (1 << 32,)
        at += 4
        if at + size > len(raw):
            raise ValueError("pstree.img is cut short")
        entries.append(raw[at : at + size])
        at += size
    return entries
