"""Who is at the other end of a unix socket: asked of the kernel, since /proc does not tell.

The messages are those of `linux/sock_diag.h` and `linux/unix_diag.h`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_SHOW_NAME, _SHOW_PEER = 1, 4
_NAME, _PEER = 0, 2
_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_QUESTION: Final = struct.Struct("=BBHIIIII")
_ANSWER: Final = struct.Struct("=BBBBIII")
_ATTRIBUTE: Final = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A unix socket: of which kind, by which name, and the inode of its peer (0: none)."""

    kind: int
    name: str
    peer: int


def read() -> dict[int, UnixSocket]:
    """All of this network namespace, by inode."""
    question = _QUESTION.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(5)
        kernel.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + question)
        return dict(_sockets(kernel))


def _sockets(kernel: socket.socket) -> Iterator[tuple[int, UnixSocket]]:
    while True:
        raw = kernel.recv(1 << 17)
        while len(raw) >= _HEADER.size:
            size, kind, *_ = _HEADER.unpack_from(raw)
            if kind in (_DONE, _ERROR):
                return
            yield _socket(raw[_HEADER.size : size])
            raw = raw[_aligned(size) :]


def _socket(raw: bytes) -> tuple[int, UnixSocket]:
    _, kind, _, _, inode, *_ = _ANSWER.unpack_from(raw)
    found = dict(_attributes(raw[_ANSWER.size :]))
    name = found.get(_NAME, b"").rstrip(b"\0").replace(b"\0", b"@").decode(errors="replace")
    return inode, UnixSocket(kind, name, int.from_bytes(found.get(_PEER, b""), "little"))


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(raw)
        yield kind, raw[_ATTRIBUTE.size : size]
        raw = raw[_aligned(max(size, _ATTRIBUTE.size)) :]


def _aligned(size: int) -> int:
    return (size + 3) & ~3
