"""What rights the processes of an image had: they get them back.

The kernel lets nobody dump a process that holds more than he does; but the hand that dumps holds two capabilities, so a
process of the same user that holds these could be dumped. It is refused: whoever asks could not look into it himself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from checkpoint import images, protobuf
from checkpoint.errors import DumpFailed
from checkpoint.helper.peer import Peer
from checkpoint.images import Magic

_THREAD, _CREDENTIALS = 5, 10
_USERS: Final = (1, 3, 5, 7)
"""The real, effective, saved and file system's user."""
_CAPABILITIES: Final = (9, 10, 11, 19)
"""Inheritable, permitted, effective and ambient ones."""


def require_none(folder: Path, owner: Peer) -> None:
    """DumpFailed unless all threads in an image are the owner's, and hold no capability."""
    found = list(folder.glob("core-*.img"))
    if not found:
        raise DumpFailed("CRIU wrote no process")
    for path in found:
        for entry in images.read(path, Magic.CORE):
            _require_none(entry, path.name, owner)


def _require_none(entry: bytes, name: str, owner: Peer) -> None:
    thread = protobuf.decode(protobuf.content(protobuf.decode(entry), _THREAD))
    if not thread:  # it has ended, and was not waited for
        return
    held = protobuf.decode(protobuf.content(thread, _CREDENTIALS))
    if any(protobuf.integer(held, field, default=-1) != owner.uid for field in _USERS):
        raise DumpFailed(f"{name} is not of user {owner.uid}")
    if any(number for field in _CAPABILITIES for number in held.get(field, [])):
        raise DumpFailed("the process, or one below it, holds capabilities: a worker that has them needs no helper")
