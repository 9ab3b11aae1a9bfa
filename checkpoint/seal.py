"""Seals: AES-256-GCM over a stream, bound to what it belongs to, with keys that can be rotated.

A sealed stream names its key and carries a salt; salt and key give a key of its own, so that a counter can serve as
nonce. Each chunk is authenticated with its number, and the last one says that it is the last: what comes out of
`unseal` was sealed just so, and is complete once it ends.
"""

from __future__ import annotations

import base64
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from checkpoint.errors import Damaged, UnknownKey

CHUNK: Final = 1 << 20

_KEY: Final = 32
_SALT: Final = 32
_TAG: Final = 16
_LAST: Final = 1 << 31
_LENGTH: Final = struct.Struct(">I")
_PURPOSE: Final = b"triggerapp checkpoint v1"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of 32 bytes by id. New seals are made with `current`; the others open what was sealed before."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise ValueError(f"the ring has no key {self.current!r} to seal with")
        for name, key in self.keys.items():
            if len(key) != _KEY:
                raise ValueError(f"key {name!r} has {len(key)} bytes instead of {_KEY}")
            if not 0 < len(name.encode()) < 256:
                raise ValueError("the id of a key has 1 to 255 bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Keys as settings hold them: `id:base64`, several by spaces or commas, the one to seal with first."""
        keys: dict[str, bytes] = {}
        for entry in re.split(r"[\s,]+", text.strip()):
            name, colon, encoded = entry.partition(":")
            if not colon or name in keys:
                raise ValueError("checkpoint keys are id:base64, each id once; `python -m checkpoint key` makes one")
            try:
                keys[name] = base64.b64decode(encoded, validate=True)
            except ValueError as problem:
                raise ValueError(f"key {name!r} is not base64") from problem
        return cls(next(iter(keys)), keys)

    @staticmethod
    def make(name: str) -> str:
        """A new key, as `parse` reads it. ValueError for an id that it would not read."""
        if not re.fullmatch(r"[^\s,:]{1,255}", name):
            raise ValueError(f"{name!r} is no id of a key: 1 to 255 characters without spaces, commas and colons")
        return f"{name}:{base64.b64encode(os.urandom(_KEY)).decode()}"

    def find(self, name: str) -> bytes:
        """UnknownKey if it is not in the ring."""
        key = self.keys.get(name)
        if key is None:
            raise UnknownKey(
                f"the image is sealed with key {name!r}, which is not in the ring: add it to read old images "
                "(CHECKPOINT_KEYS; without those, secret-key-… are made of SECRET_KEY and its fallbacks)"
            )
        return key


def seal(pieces: Iterable[bytes], sink: BinaryIO, *, keyring: Keyring, bound: bytes) -> None:
    """Write `pieces` sealed; only who knows the same `bound` can open it."""
    salt = os.urandom(_SALT)
    name = keyring.current.encode()
    cipher = _cipher(keyring.find(keyring.current), salt)
    sink.write(bytes([len(name)]) + name + salt)
    number = 0
    waiting = b""
    for piece in _pieces(pieces):
        if waiting:
            _write(sink, cipher.encrypt(_nonce(number, last=False), waiting, bound))
            number += 1
        waiting = piece
    _write(sink, cipher.encrypt(_nonce(number, last=True), waiting, bound), flag=_LAST)


def unseal(source: BinaryIO, *, keyring: Keyring, bound: bytes) -> Iterator[bytes]:
    """The sealed content, piece by piece. Damaged at the first byte that is not as it was sealed."""
    (length,) = _exactly(source, 1)
    try:
        name = _exactly(source, length).decode()
    except UnicodeDecodeError as problem:
        raise Damaged("the image names its key in no way that can be read") from problem
    cipher = _cipher(keyring.find(name), _exactly(source, _SALT))
    number = 0
    last = False
    while not last:
        (head,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
        last = bool(head & _LAST)
        size = head & ~_LAST
        if not _TAG <= size <= CHUNK + _TAG:
            raise Damaged("the image has a chunk of a size that none was sealed with")
        try:
            yield cipher.decrypt(_nonce(number, last=last), _exactly(source, size), bound)
        except InvalidTag as problem:
            raise Damaged("the image was altered, cut, or sealed for something else") from problem
        number += 1


def _pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from (piece[at : at + CHUNK] for at in range(0, len(piece), CHUNK))


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=_KEY, salt=salt, info=_PURPOSE).derive(key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + bytes([last])


def _write(sink: BinaryIO, sealed: bytes, *, flag: int = 0) -> None:
    sink.write(_LENGTH.pack(len(sealed) | flag))
    sink.write(sealed)


def _exactly(source: BinaryIO, size: int) -> bytes:
    raw = source.read(size)
    if len(raw) != size:
        raise Damaged("the image is cut short")
    return raw
