"""A process grafted onto a base: its memory becomes a private mapping of the base's file, and stays what it was.

What is forked from it then shares the file's pages with all others on the host, and CRIU, which does not dump what a
file holds, dumps only what a process has changed. Pages in which process and base differ are written back.

Only the anonymous memory that the base holds pages of is mapped. The end of a file is followed by a hole (see
`checkpoint.base`): memory that the C library makes longer by mremap(2) goes on there.
"""

from __future__ import annotations

import fcntl
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from checkpoint.base import Base
from checkpoint.errors import Unsupported
from checkpoint.pagemap import PAGE
from checkpoint.tracing import Call, Traced, traced

_AREA: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (rw[x-])p 0+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)
_AT_ONCE: Final = 256 * PAGE
_PROTECTION: Final = {"rw-": mmap.PROT_READ | mmap.PROT_WRITE, "rwx": 7}
_FIXED: Final = 0x10


class Piece(NamedTuple):
    """Consecutive pages of anonymous memory that the base holds one after the other."""

    address: int
    size: int
    place: int
    protection: int


def graft(pid: int, base: Base) -> int:
    """Map the base into a process, which stands still meanwhile; how many bytes of it.

    Raises what `traced` does, and Unsupported if the base has no hole.
    """
    if not base.has_hole():
        raise Unsupported(f"{base.path.parent} takes no file as large as a base to be mapped")
    with traced(pid) as process:
        pieces = list(_pieces(pid, base))
        with process.opened(base.path) as file:
            process.call(Call.FLOCK, file, fcntl.LOCK_SH)  # held for as long as it is mapped: see `checkpoint.use`
            process.is_changed = True
            for piece in pieces:
                _map(process, file, piece, base)
        return sum(piece.size for piece in pieces)


def _pieces(pid: int, base: Base) -> Iterator[Piece]:
    maps = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape")
    areas = [(int(start, 16), int(end, 16), _PROTECTION[rights]) for start, end, rights in _AREA.findall(maps)]
    for stretch in base.stretches:
        for start, end, protection in areas:
            first = max(start, stretch.address)
            last = min(end, stretch.address + stretch.pages * PAGE)
            if first < last:
                yield Piece(first, last - first, base.places[first], protection)


def _map(process: Traced, file: int, piece: Piece, base: Base) -> None:
    own = list(_differing(process, piece, base))
    flags = mmap.MAP_PRIVATE | _FIXED
    process.call(Call.MMAP, piece.address, piece.size, piece.protection, flags, file, piece.place)
    for address, page in own:
        process.write(address, page)


def _differing(process: Traced, piece: Piece, base: Base) -> Iterator[tuple[int, bytes]]:
    """The pages of the process that are not as in the base."""
    for done in range(0, piece.size, _AT_ONCE):
        chunk = process.read(piece.address + done, min(_AT_ONCE, piece.size - done))
        for at in range(0, len(chunk), PAGE):
            place = piece.place + done + at
            if not chunk.startswith(base.pages[place : place + PAGE], at):
                yield piece.address + done + at, chunk[at : at + PAGE]
