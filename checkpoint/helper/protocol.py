"""What a worker and the helper say to each other: one order and its answer, a frame each.

A process is named by its pid, folders and sockets by descriptors that come along: no path, no command, no option of
CRIU's. A frame that is not exactly as described here is refused.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

VERSION: Final = 1
SILENCE: Final = timedelta(seconds=20)
"""Who has connected says what he wants within this time."""
LONGEST: Final = timedelta(minutes=5)
"""No order may ask for more time."""
MARGIN: Final = timedelta(seconds=60)
"""What copying and verifying an image may take beside CRIU."""

_LARGEST: Final = 16 << 10
_MOST_DESCRIPTORS: Final = 16
_MOST_PIDS: Final = 1 << 22
_MOST_EXTERNAL: Final = 64
_KEY: Final = re.compile(r"(socket|pipe):\[[1-9]\d{0,19}\]")


class Unclear(ValueError):
    """A frame that says nothing that this protocol knows."""


class OtherVersion(Unclear):
    """A frame of another version of the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greet:
    """Say which CRIU is used, and whether this worker would be served."""

    order = "greet"
    descriptors = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """Write a process of the worker's own user to the folder that comes along."""

    order = "dump"
    descriptors = 1

    pid: int
    external: tuple[int, ...]
    leave_stopped: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Thaw what is in the folder that comes along; the other descriptors are for what was external, in this order."""

    order = "restore"

    inherit: tuple[str, ...]
    seconds: float

    @property
    def descriptors(self) -> int:
        return 1 + len(self.inherit)


Order = Greet | Dump | Restore


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How it went. `code` and `message` say why not, `log` what CRIU wrote."""

    ok: bool
    pid: int = 0
    criu: tuple[int, ...] = ()
    code: str = ""
    message: str = ""
    log: tuple[str, ...] = ()


def send_order(line: socket.socket, order: Order, descriptors: Sequence[int] = ()) -> None:
    """OSError if nobody is there."""
    _send(line, {"order": order.order, **asdict(order)}, descriptors)


def receive_order(line: socket.socket) -> tuple[Order, list[int]]:
    """An order with the descriptors it needs, which are the caller's to close. Unclear if it is none."""
    found, descriptors = _receive(line, _MOST_DESCRIPTORS)
    try:
        order = _order(found)
        if len(descriptors) != order.descriptors:
            raise Unclear(f"{order.order} comes with {order.descriptors} descriptors, and here are {len(descriptors)}")
    except BaseException:
        _close(descriptors)
        raise
    return order, descriptors


def send_answer(line: socket.socket, answer: Answer) -> None:
    """OSError if nobody is there."""
    _send(line, asdict(answer))


def receive_answer(line: socket.socket) -> Answer:
    """Unclear if it is none, OSError if there is none."""
    found, _ = _receive(line, 0)
    if set(found) != {"ok", "pid", "criu", "code", "message", "log"}:
        raise Unclear("the answer has other fields")
    return Answer(**{**found, "criu": tuple(found["criu"]), "log": tuple(found["log"])})


def _send(line: socket.socket, what: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    raw = json.dumps({"version": VERSION, **what}).encode()
    if len(raw) > _LARGEST:  # only what CRIU wrote can be so long
        raw = json.dumps({"version": VERSION, **what, "log": ()}).encode()
    socket.send_fds(line, [raw], descriptors, socket.MSG_NOSIGNAL)


def _receive(line: socket.socket, most: int) -> tuple[dict[str, Any], list[int]]:
    raw, descriptors, flags, _ = socket.recv_fds(line, _LARGEST + 1, most, socket.MSG_CMSG_CLOEXEC)
    try:
        if not raw:
            raise ConnectionResetError("the other end is closed")
        if len(raw) > _LARGEST or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Unclear("the frame is larger than any of this protocol")
        return _decode(raw), descriptors
    except BaseException:
        _close(descriptors)
        raise


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode())  # else it looks for other encodings, whose code the hand may not read
    except (ValueError, RecursionError):
        raise Unclear("the frame is no JSON") from None
    if not isinstance(found, dict):
        raise Unclear("the frame is no object")
    version = found.pop("version", None)
    if version != VERSION:
        raise OtherVersion(f"this is version {VERSION} of the protocol, and the other end speaks {version!r:.20}")
    return found


def _order(found: dict[str, Any]) -> Order:
    match found:
        case {"order": "greet", **rest} if not rest:
            return Greet()
        case {
            "order": "dump",
            "pid": int(pid),
            "external": list(external),
            "leave_stopped": bool(leave_stopped),
            "seconds": int() | float() as seconds,
            **rest,
        } if not rest and _are_inodes(external) and 1 < pid < _MOST_PIDS and _is_a_while(seconds):
            return Dump(pid=pid, external=tuple(external), leave_stopped=leave_stopped, seconds=seconds)
        case {"order": "restore", "inherit": list(inherit), "seconds": int() | float() as seconds, **rest} if (
            not rest and _are_keys(inherit) and _is_a_while(seconds)
        ):
            return Restore(inherit=tuple(inherit), seconds=seconds)
    raise Unclear("the frame is no order, or one with other fields or values than it has")


def _are_inodes(found: list[Any]) -> bool:
    return len(found) <= _MOST_EXTERNAL and all(type(each) is int and 0 < each < 1 << 64 for each in found)


def _are_keys(found: list[Any]) -> bool:
    are_keys = all(isinstance(each, str) and _KEY.fullmatch(each) for each in found)
    return are_keys and len(set(found)) == len(found) < _MOST_DESCRIPTORS


def _is_a_while(seconds: float) -> bool:
    return not isinstance(seconds, bool) and 0 < seconds <= LONGEST.total_seconds()  # never true of NaN


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
