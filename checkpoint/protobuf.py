"""The little of the protobuf wire format that CRIU's messages need, so that users may have any protobuf, or none.

Fields keep their order and may repeat; a varint is an int, everything else is bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Value = bool | int | str | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def encode(fields: Iterable[tuple[int, Value]]) -> bytes:
    """The message with these numbered fields."""
    return b"".join(_field(number, value) for number, value in fields)


def decode(message: bytes) -> Mapping[int, list[int | bytes]]:
    """Field number to its values, in order. ValueError if `message` is no message."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        value, at = _read_value(message, at, kind=tag & 7)
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def integer(fields: Mapping[int, list[int | bytes]], number: int, *, default: int = 0) -> int:
    """The last value of an integer field; an int32 comes back with its sign."""
    value = fields.get(number, [default])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no integer")
    return value - (1 << 64) if value >> 63 else value


def content(fields: Mapping[int, list[int | bytes]], number: int) -> bytes:
    """The last value of a string, bytes or message field; empty if there is none."""
    value = fields.get(number, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is an integer")
    return value


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(int(value))
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _BYTES) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    """An integer, seven bits a byte."""
    value &= (1 << 64) - 1  # a negative int32 travels as ten bytes
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The integer at this place, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("a varint without end")


def _read_value(message: bytes, at: int, *, kind: int) -> tuple[int | bytes, int]:
    if kind == _VARINT:
        return read_varint(message, at)
    if kind in (_FIXED64, _FIXED32):
        size = 8 if kind == _FIXED64 else 4
    elif kind == _BYTES:
        size, at = read_varint(message, at)
    else:
        raise ValueError(f"wire type {kind}")
    if at + size > len(message):
        raise ValueError("a field longer than its message")
    return message[at : at + size], at + size
