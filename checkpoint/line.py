"""The line between a run process and its supervisor: whole messages over a stream socket.

Nothing is under way on it while a process is dumped: what lies in a socket's buffer is in no image.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

_HEAD: Final = struct.Struct("<cI")
_LARGEST: Final = 64 << 20


class Word(Enum):
    """What a message is about."""

    PARKED = b"p"
    """The process stands still and can be dumped."""
    GO_ON = b"g"
    """It was not dumped, or not killed: go on."""
    RESTORED = b"r"
    """It was restored: go on with fresh randomness."""
    AWAKE = b"a"
    """It goes on; the payload is what it was woken with for that."""
    NOTE = b"n"
    """Whatever else both sides have to say."""


@dataclass(frozen=True, slots=True)
class Message:
    word: Word
    payload: bytes = b""


class Hung(Exception):
    """The other end is gone, or speaks something else."""


class Line:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Line, Line]:
        """Two ends of a new line; neither is inherited."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), cls(theirs)

    @classmethod
    def on(cls, descriptor: int) -> Line:
        """The line that is open as `descriptor` already."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        return self._end.fileno()

    def inode(self) -> int:
        """What CRIU knows this end by."""
        return os.fstat(self._end.fileno()).st_ino

    def send(self, message: Message) -> None:
        """Hung if nobody is there."""
        if len(message.payload) > _LARGEST:
            raise ValueError(f"a message of {len(message.payload)} bytes is more than a line carries")
        try:
            self._end.sendall(_HEAD.pack(message.word.value, len(message.payload)) + message.payload)
        except (BrokenPipeError, ConnectionResetError) as problem:
            raise Hung("the other end is closed") from problem

    def receive(self, *, timeout: timedelta | None = None) -> Message:
        """The next message. Hung if the other end is gone, TimeoutError if it says nothing."""
        self._end.settimeout(timeout.total_seconds() if timeout else None)
        try:
            word, size = _HEAD.unpack(self._read(_HEAD.size))
            if size > _LARGEST:
                raise Hung(f"a message of {size} bytes is more than a line carries")
            return Message(Word(word), self._read(size))
        except (ConnectionResetError, ValueError) as problem:
            raise Hung(f"the other end speaks something else: {problem}") from problem
        finally:
            self._end.settimeout(None)  # a blocking read is where a process parks

    def close(self) -> None:
        self._end.close()

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._end.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise Hung("the other end is closed")
            parts += part
        return bytes(parts)
