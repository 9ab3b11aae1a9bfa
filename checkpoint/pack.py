"""One checkpoint as one sealed stream: the manifest, then each image file, compressed.

Nothing of a stream is believed before its seal: sizes are checked against the limit, names against CRIU's, content
against the manifest, and the end must be the end. In the clear is only which base it needs, for who collects bases
without a key; the manifest says it again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

import zstandard

from checkpoint import base as bases
from checkpoint import delta, pagemap, seal
from checkpoint.base import Base
from checkpoint.errors import Damaged, TooLarge
from checkpoint.manifest import ImageFile, Manifest
from checkpoint.pagemap import PAGE, Pagemap
from checkpoint.seal import Keyring

LIMIT: Final = 4 << 30

OpenBase = Callable[[str], Base]
"""Finds the base of a digest."""

_MAGIC: Final = b"CKPT\x00\x02\n"
_PAGES: Final = "pages-"
_NO_BASE: Final = UUID(int=0)
_MANIFEST: Final = "manifest.json"
_LARGEST_MANIFEST: Final = 16 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.img")
_HEAD: Final = struct.Struct(">BQ")
_LEVEL: Final = 1
_WINDOW: Final = 1 << 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a stream is bound to: it opens only for the same checkpoint of the same run, wait and lease."""

    checkpoint: UUID
    run: UUID
    sequence: int
    lease: int

    def bind(self, name: str, size: int) -> bytes:
        """What the seal of one file is bound to."""
        return json.dumps([str(self.checkpoint), str(self.run), self.sequence, self.lease, name, size]).encode()


def is_image(name: str) -> bool:
    """Whether CRIU gives an image file such a name."""
    return _NAME.fullmatch(name) is not None


def pack(
    directory: Path, manifest: Manifest, sink: BinaryIO, *, label: Label, keyring: Keyring, base: Base | None = None
) -> None:
    """Write the checkpoint in `directory`, reduced by `base` if its manifest says so, to `sink`."""
    sink.write(_MAGIC + _base_id(manifest).bytes)
    raw = manifest.to_json()
    pack_file(sink, io.BytesIO(raw), _MANIFEST, len(raw), label=label, keyring=keyring)
    addresses = _addresses(directory) if base else {}
    for image in manifest.images:
        with (directory / image.name).open("rb") as file:
            if base and image.name in addresses:
                pieces = delta.compress(file, addresses[image.name], base)
                _seal_file(sink, pieces, image.name, image.size, label=label, keyring=keyring)
            else:
                pack_file(sink, file, image.name, image.size, label=label, keyring=keyring)


def read_base(source: BinaryIO) -> UUID | None:
    """Which base a stream needs, as it says in the clear."""
    head = source.read(len(_MAGIC) + 16)
    if not head.startswith(_MAGIC) or len(head) != len(_MAGIC) + 16:
        raise Damaged("this is no checkpoint, or one of another format")
    id = UUID(bytes=head[len(_MAGIC) :])
    return None if id == _NO_BASE else id


def read_manifest(source: BinaryIO, *, label: Label, keyring: Keyring) -> Manifest:
    """The manifest at the head of a stream."""
    needed = read_base(source)
    name, size = _read_head(source)
    if name != _MANIFEST or size > _LARGEST_MANIFEST:
        raise Damaged("the checkpoint does not begin with its manifest")
    manifest = Manifest.from_json(b"".join(_unpack_file(source, name, size, label=label, keyring=keyring)))
    if _base_id(manifest) != (needed or _NO_BASE):
        raise Damaged("the checkpoint names another base than its manifest")
    return manifest


def unpack(
    source: BinaryIO,
    directory: Path,
    *,
    label: Label,
    keyring: Keyring,
    limit: int = LIMIT,
    open_base: OpenBase | None = None,
) -> Manifest:
    """Write a stream's images to the empty, private `directory`. Until this returns they are not to be used."""
    manifest = read_manifest(source, label=label, keyring=keyring)
    _require_sound(manifest, limit)
    base = open_base(manifest.base) if open_base and manifest.base else None
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for image in manifest.images:
            if _read_head(source) != (image.name, image.size):
                raise Damaged(f"{image.name} is not where the manifest has it")
            pieces = _unsealed(source, image, directory, base, label=label, keyring=keyring)
            _write_image(folder, image, pieces)
    finally:
        os.close(folder)
    if source.read(1):
        raise Damaged("the checkpoint goes on after its end")
    return manifest


def pack_file(sink: BinaryIO, file: BinaryIO, name: str, size: int, *, label: Label, keyring: Keyring) -> None:
    """Write one file: its name and size, then its content, compressed and sealed."""
    _seal_file(sink, _compress(file, size), name, size, label=label, keyring=keyring)


def unpack_file(source: BinaryIO, name: str, *, label: Label, keyring: Keyring, limit: int) -> Iterator[bytes]:
    """The content of the one file that a stream holds."""
    found, size = _read_head(source)
    if found != name:
        raise Damaged(f"{found} is where {name} should be")
    if size > limit:
        raise TooLarge(f"{name} has {size >> 20} MB, and {limit >> 20} MB is allowed")
    yield from _unpack_file(source, name, size, label=label, keyring=keyring)
    if source.read(1):
        raise Damaged(f"{name} goes on after its end")


def _require_sound(manifest: Manifest, limit: int) -> None:
    if manifest.size > limit:
        raise TooLarge(f"the images are {manifest.size >> 20} MB, and {limit >> 20} MB is allowed")
    names = [image.name for image in manifest.images]
    if len(set(names)) != len(names) or not all(map(is_image, names)):
        raise Damaged("the manifest has names that CRIU does not give")


def _base_id(manifest: Manifest) -> UUID:
    return bases.id_of(manifest.base) if manifest.base else _NO_BASE


def _addresses(directory: Path) -> dict[str, list[int]]:
    """Where the pages in each file of them belong."""
    try:
        maps = map(Pagemap.read, pagemap.of(directory))
        return {found.file: found.present() for found in maps}
    except ValueError as problem:
        raise Damaged(f"a map of pages cannot be read: {problem}") from problem


def _unsealed(
    source: BinaryIO, image: ImageFile, directory: Path, base: Base | None, *, label: Label, keyring: Keyring
) -> Iterator[bytes]:
    """The content of an image file. The maps of pages come before the pages, and were verified."""
    addresses = _addresses(directory).get(image.name) if base and image.name.startswith(_PAGES) else None
    if base is None or addresses is None:
        return _unpack_file(source, image.name, image.size, label=label, keyring=keyring)
    if len(addresses) * PAGE != image.size:
        raise Damaged(f"{image.name} has not the pages that its map lists")
    joined = _Joined(seal.unseal(source, keyring=keyring, bound=label.bind(image.name, image.size)))
    return _whole(delta.decompress(joined, addresses, base, name=image.name), joined, image.name)


def _whole(pieces: Iterator[bytes], source: BinaryIO, name: str) -> Iterator[bytes]:
    yield from pieces
    if source.read():
        raise Damaged(f"{name} is longer than the manifest has it")


def _seal_file(
    sink: BinaryIO, pieces: Iterator[bytes], name: str, size: int, *, label: Label, keyring: Keyring
) -> None:
    raw = name.encode()
    sink.write(_HEAD.pack(len(raw), size) + raw)
    seal.seal(pieces, sink, keyring=keyring, bound=label.bind(name, size))


def _unpack_file(source: BinaryIO, name: str, size: int, *, label: Label, keyring: Keyring) -> Iterator[bytes]:
    pieces = seal.unseal(source, keyring=keyring, bound=label.bind(name, size))
    return _decompress(pieces, name, size)


def _read_head(source: BinaryIO) -> tuple[str, int]:
    head = source.read(_HEAD.size)
    if len(head) != _HEAD.size:
        raise Damaged("the checkpoint is cut short")
    length, size = _HEAD.unpack(head)
    return source.read(length).decode(errors="replace"), size


def _compress(file: BinaryIO, size: int) -> Iterator[bytes]:
    chunker = zstandard.ZstdCompressor(level=_LEVEL).chunker(size=size, chunk_size=seal.CHUNK)
    left = size
    while piece := file.read(min(left, seal.CHUNK)):
        left -= len(piece)
        yield from chunker.compress(piece)
    yield from chunker.finish()  # type: ignore[no-untyped-call]


def _decompress(pieces: Iterator[bytes], name: str, size: int) -> Iterator[bytes]:
    """At most `size` bytes, whatever the stream claims to hold; the seal is read to its end."""
    source = _Joined(pieces)
    left = size
    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(source) as reader:
            while piece := reader.read(seal.CHUNK):
                left -= len(piece)
                if left < 0:
                    raise Damaged(f"{name} is longer than the manifest has it")
                yield piece
    except zstandard.ZstdError as problem:
        raise Damaged(f"{name} cannot be decompressed: {problem}") from problem
    source.read()
    if left:
        raise Damaged(f"{name} is shorter than the manifest has it")


class _Joined(io.BytesIO):
    """An iterator of bytes as the file that zstandard wants to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = b""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return self._held + b"".join(self._pieces)
        while len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
        given, self._held = self._held[:size], self._held[size:]
        return given


def _write_image(folder: int, image: ImageFile, pieces: Iterator[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    digest = hashlib.sha256()
    with open(os.open(image.name, flags, 0o600, dir_fd=folder), "wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
    if digest.hexdigest() != image.digest:
        raise Damaged(f"{image.name} is not what the manifest has")
