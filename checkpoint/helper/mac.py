"""The helper's own seal: a code over all files of an image and whose it is, made at the dump, demanded at the restore.

Images bring whole processes to life, with whatever rights they say. So the helper restores what a helper with the same
key has dumped for the same user, and nothing else. It is GMAC, with a key of its own for each image (as in
`checkpoint.seal`): a counter is not needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import FileIO
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from checkpoint.errors import Damaged
from checkpoint.helper.peer import Peer

NAME: Final = "helper.img"
"""Named as CRIU's own files are, so that it goes wherever they go."""
KEY: Final = 32

_SALT: Final = 32
_TAG: Final = 16
_NONCE: Final = bytes(12)
_MAGIC: Final = b"CKPTMAC1"
_PURPOSE: Final = b"triggerapp checkpoint helper v1"
_CHUNK: Final = 1 << 20
_ERROR: Final = (
    "the image was not dumped by a helper with this key for this user, or it was changed since: hosts that restore "
    "each other's images need the same key file"
)


def seal(folder: int, key: bytes, owner: Peer) -> None:
    """Write the seal of the images in a folder, which nobody else can change meanwhile."""
    salt = os.urandom(_SALT)
    encryptor = Cipher(AES(_derived(key, salt)), GCM(_NONCE)).encryptor()
    for piece in _sealed(folder, owner):
        encryptor.authenticate_additional_data(piece)
    encryptor.finalize()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(NAME, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(_MAGIC + salt + encryptor.tag)
        os.fchown(file.fileno(), owner.uid, owner.gid)


def require(folder: int, key: bytes, owner: Peer) -> None:
    """Damaged unless the images in a folder, which nobody else can change, are as they were sealed for this owner."""
    try:
        with _opened(folder, NAME) as file:
            raw = file.read(len(_MAGIC) + _SALT + _TAG + 1)
    except OSError:
        raise Damaged(f"the image has no seal of the helper: {_ERROR}") from None
    salt, tag = raw[len(_MAGIC) : -_TAG], raw[-_TAG:]
    if not raw.startswith(_MAGIC) or len(salt) != _SALT:
        raise Damaged(f"the seal of the image is none of the helper's: {_ERROR}")
    decryptor = Cipher(AES(_derived(key, salt)), GCM(_NONCE, tag)).decryptor()
    for piece in _sealed(folder, owner):
        decryptor.authenticate_additional_data(piece)
    try:
        decryptor.finalize()
    except InvalidTag:
        raise Damaged(_ERROR) from None


def _sealed(folder: int, owner: Peer) -> Iterator[bytes]:
    """Whose it is, which files there are with their sizes, and what is in them."""
    names = sorted(name for name in os.listdir(folder) if name != NAME and name.endswith(".img"))
    files = [(name, os.stat(name, dir_fd=folder, follow_symlinks=False).st_size) for name in names]
    head = json.dumps([owner.uid, owner.gid, files]).encode()
    yield len(head).to_bytes(8)
    yield head
    for name, size in files:
        yield from _content(folder, name, size)


def _content(folder: int, name: str, size: int) -> Iterator[bytes]:
    with _opened(folder, name) as file:
        while piece := file.read(_CHUNK):
            size -= len(piece)
            yield piece
    if size:
        raise Damaged(f"{name} changed while it was read")


def _opened(folder: int, name: str) -> FileIO:
    return FileIO(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))


def _derived(key: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY, salt=salt, info=_PURPOSE).derive(key)
