"""One checkpoint as one sealed stream: the manifest, then each image file, compressed.

Nothing of a stream is believed before its seal: sizes are checked against the limit, names against CRIU's, content
against the manifest, and the end must be the end.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

import zstandard

from checkpoint import seal
from checkpoint.errors import Damaged, TooLarge
from checkpoint.manifest import ImageFile, Manifest
from checkpoint.seal import Keyring

LIMIT: Final = 4 << 30

_MAGIC: Final = b"CKPT\x00\x01\n"
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


def pack(directory: Path, manifest: Manifest, sink: BinaryIO, *, label: Label, keyring: Keyring) -> None:
    """Write the checkpoint in `directory` to `sink`."""
    sink.write(_MAGIC)
    raw = manifest.to_json()
    _pack_file(sink, io.BytesIO(raw), _MANIFEST, len(raw), label=label, keyring=keyring)
    for image in manifest.images:
        with (directory / image.name).open("rb") as file:
            _pack_file(sink, file, image.name, image.size, label=label, keyring=keyring)


def read_manifest(source: BinaryIO, *, label: Label, keyring: Keyring) -> Manifest:
    """The manifest at the head of a stream."""
    if source.read(len(_MAGIC)) != _MAGIC:
        raise Damaged("this is no checkpoint, or one of another format")
    name, size = _read_head(source)
    if name != _MANIFEST or size > _LARGEST_MANIFEST:
        raise Damaged("the checkpoint does not begin with its manifest")
    return Manifest.from_json(b"".join(_unpack_file(source, name, size, label=label, keyring=keyring)))


def unpack(source: BinaryIO, directory: Path, *, label: Label, keyring: Keyring, limit: int = LIMIT) -> Manifest:
    """Write a stream's images to the empty, private `directory`. Until this returns they are not to be used."""
    manifest = read_manifest(source, label=label, keyring=keyring)
    _require_sound(manifest, limit)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for image in manifest.images:
            if _read_head(source) != (image.name, image.size):
                raise Damaged(f"{image.name} is not where the manifest has it")
            _write_image(folder, image, _unpack_file(source, image.name, image.size, label=label, keyring=keyring))
    finally:
        os.close(folder)
    if source.read(1):
        raise Damaged("the checkpoint goes on after its end")
    return manifest


def _require_sound(manifest: Manifest, limit: int) -> None:
    if manifest.size > limit:
        raise TooLarge(f"the images are {manifest.size >> 20} MB, and {limit >> 20} MB is allowed")
    names = [image.name for image in manifest.images]
    if len(set(names)) != len(names) or not all(map(_NAME.fullmatch, names)):
        raise Damaged("the manifest has names that CRIU does not give")


def _pack_file(sink: BinaryIO, file: BinaryIO, name: str, size: int, *, label: Label, keyring: Keyring) -> None:
    raw = name.encode()
    sink.write(_HEAD.pack(len(raw), size) + raw)
    seal.seal(_compress(file, size), sink, keyring=keyring, bound=label.bind(name, size))


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
    while piece := file.read(seal.CHUNK):
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
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = piece
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
