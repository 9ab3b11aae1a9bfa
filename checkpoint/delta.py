"""Pages compressed against those of a base at the same addresses.

A page that differs from its zygote's differs in a few words: counts of references, links of the collector. Page by page
xor and zstd would find that as well; given the base's pages as its dictionary zstd needs neither numpy nor integers of
megabytes, stores a third less, and reads back ten times as fast. It works on small groups of pages, so that the page
wanted is never out of the dictionary's reach.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import zstandard

from checkpoint.base import Base
from checkpoint.errors import Damaged
from checkpoint.pagemap import PAGE

_GROUP: Final = 64
_HEAD: Final = struct.Struct(">I")
_PARAMETERS: Final = zstandard.ZstdCompressionParameters.from_level(1, window_log=19, hash_log=16, chain_log=16)
_WINDOW: Final = 1 << 19


def compress(file: BinaryIO, addresses: Sequence[int], base: Base) -> Iterator[bytes]:
    """The pages in `file`, which belong at `addresses`."""
    for group in _groups(addresses):
        pages = file.read(len(group) * PAGE)
        frame = zstandard.ZstdCompressor(compression_params=_PARAMETERS, dict_data=_dictionary(group, base))
        squeezed = frame.compress(pages)
        yield _HEAD.pack(len(squeezed)) + squeezed


def decompress(source: BinaryIO, addresses: Sequence[int], base: Base, *, name: str) -> Iterator[bytes]:
    """Those pages again, from a source that was authenticated. Damaged if it holds anything else."""
    for group in _groups(addresses):
        size = len(group) * PAGE
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW, dict_data=_dictionary(group, base))
        try:
            (length,) = _HEAD.unpack(source.read(_HEAD.size))
            squeezed = source.read(min(length, 2 * size))
            if zstandard.frame_content_size(squeezed) != size:
                raise Damaged(f"{name} has not the pages that its map lists")
            yield reader.decompress(squeezed)
        except (zstandard.ZstdError, struct.error) as problem:
            raise Damaged(f"{name} cannot be decompressed: {problem}") from problem


def _groups(addresses: Sequence[int]) -> Iterator[Sequence[int]]:
    return (addresses[at : at + _GROUP] for at in range(0, len(addresses), _GROUP))


def _dictionary(group: Sequence[int], base: Base) -> zstandard.ZstdCompressionDict | None:
    pages = [page for page in map(base.page, group) if page is not None]
    if not pages:
        return None
    return zstandard.ZstdCompressionDict(b"".join(pages), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
