"""A program that finds its own loader and libraries, made of one that has to be told where they are.

What the kernel starts with capabilities believes neither its environment nor a command line about libraries: where they
are has to be in the file. It is what patchelf does, for this one case: both paths are appended, mapped by a program
header that only described notes, and the libraries named by an entry of the dynamic section that its linker left free.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC_64_LITTLE: Final = b"\x7fELF\x02\x01"
_HEADER: Final = struct.Struct("<IIQQQQQQ")
_ENTRY: Final = struct.Struct("<qQ")
_LOAD, _DYNAMIC, _INTERPRETER, _NOTE = 1, 2, 3, 4
_NULL, _STRINGS, _RPATH, _RUNPATH = 0, 5, 15, 29
_READABLE: Final = 4
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class _Segment:
    """A program header, and where in the file it is."""

    at: int
    kind: int
    offset: int
    address: int
    size: int
    memory: int


def loader(program: bytes) -> str:
    """Who starts it: the path that is written in it. ValueError if there is none."""
    with _telling_damage():
        found = _last(program, _INTERPRETER)
    return os.fsdecode(program[found.offset : found.offset + found.size].rstrip(b"\0"))


def bind(program: bytes, *, loader: Path, libraries: Path) -> bytes:
    """The same program, started by `loader`; libraries, and theirs, are in `libraries`. ValueError if it cannot be."""
    with _telling_damage():
        return _bind(program, os.fsencode(loader) + b"\0", os.fsencode(libraries) + b"\0")


def _bind(program: bytes, loader: bytes, libraries: bytes) -> bytes:
    """Both paths end with a zero."""
    bound = bytearray(program)
    offset = _to_page(len(program))
    address = _to_page(max(segment.address + segment.memory for segment in _segments(program) if segment.kind == _LOAD))
    _write(bound, _last(program, _NOTE), _LOAD, offset=offset, address=address, size=len(loader + libraries))
    _write(bound, _last(program, _INTERPRETER), _INTERPRETER, offset=offset, address=address, size=len(loader))
    _add_entry(bound, _last(program, _DYNAMIC), address + len(loader))
    return bytes(bound.ljust(offset, b"\0")) + loader + libraries


def _add_entry(program: bytearray, dynamic: _Segment, path: int) -> None:
    """RPATH and not RUNPATH: it is good for the libraries of libraries too."""
    places = range(dynamic.offset, dynamic.offset + dynamic.size, _ENTRY.size)
    entries = [_ENTRY.unpack_from(program, place) for place in places]
    tags = [tag for tag, _ in entries]
    if _RPATH in tags or _RUNPATH in tags:
        raise ValueError("it names a folder of libraries already")
    if tags.count(_NULL) < 2:
        raise ValueError("its linker left no entry of the dynamic section free")
    strings = dict(entries)[_STRINGS]  # strings are told by their distance from here, and may lie anywhere behind it
    _ENTRY.pack_into(program, places[tags.index(_NULL)], _RPATH, path - strings)


def _write(program: bytearray, segment: _Segment, kind: int, *, offset: int, address: int, size: int) -> None:
    _HEADER.pack_into(program, segment.at, kind, _READABLE, offset, address, address, size, size, _PAGE)


def _last(program: bytes, kind: int) -> _Segment:
    """The last one: of headers that are mapped the addresses have to go up."""
    found = [segment for segment in _segments(program) if segment.kind == kind]
    if not found:
        raise ValueError("it is no program that is started by a loader")
    return found[-1]


def _segments(program: bytes) -> Iterator[_Segment]:
    if not program.startswith(_MAGIC_64_LITTLE):
        raise ValueError("it is no 64-bit program")
    (start,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    for at in range(start, start + size * count, size):
        kind, _, offset, address, _, length, memory, _ = _HEADER.unpack_from(program, at)
        yield _Segment(at, kind, offset, address, length, memory)


@contextmanager
def _telling_damage() -> Iterator[None]:
    """What it says of itself may lead out of the file, or to numbers that no file has."""
    try:
        yield
    except (struct.error, KeyError, OverflowError) as problem:
        raise ValueError("it is cut off or damaged") from problem


def _to_page(number: int) -> int:
    return -(-number // _PAGE) * _PAGE
