"""The build id in an ELF file: what its linker noted to tell builds apart."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

_PT_NOTE: Final = 4
_NT_GNU_BUILD_ID: Final = 3
_MAGIC_64_LITTLE: Final = b"\x7fELF\x02\x01"
_LARGEST_NOTES: Final = 64 << 10


def read(path: str) -> str:
    """The build id in hex; empty if the file has none or is no 64-bit little-endian ELF."""
    try:
        with open(path, "rb") as file:
            return _search(file)
    except (OSError, struct.error):
        return ""


def _search(file: BinaryIO) -> str:
    head = file.read(64)
    if not head.startswith(_MAGIC_64_LITTLE):
        return ""
    (start,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    file.seek(start)
    table = file.read(size * count)
    for at in range(0, len(table), size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", table, at)
        if kind == _PT_NOTE:
            file.seek(offset)
            found = _note(file.read(min(length, _LARGEST_NOTES)))
            if found:
                return found
    return ""


def _note(notes: bytes) -> str:
    at = 0
    while at + 12 <= len(notes):
        name, content, kind = struct.unpack_from("<III", notes, at)
        begin = at + 12 + _aligned(name)
        if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0":
            return notes[begin : begin + content].hex()
        at = begin + _aligned(content)
    return ""


def _aligned(size: int) -> int:
    return (size + 3) & ~3
