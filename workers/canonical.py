"""The digest of a step's arguments, by which a re-entered run knows that it asks for the same.

The one rule: it never raises and never changes between processes. What cannot be written counts by the name of its
type alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from workers import tagged
from workers.tagged import PLAIN_BITS, TYPE

MAX_DEPTH = 100

_SCALARS = frozenset({str, int, float, bool, type(None)})


def digest(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """SHA-256 of the arguments of a step, in hex; never raises.

    A list and a tuple are alike: a broker's serializer may have turned one into the other.
    """
    try:
        text = _encode([args, kwargs])
    except Exception:  # noqa: BLE001 - keys that do not sort, cycles, code of the user: all go the slow way
        text = json.dumps(_canonical([args, kwargs], ()))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _leaf(value: object) -> object:
    """What stands for a value that JSON lacks."""
    try:
        found = tagged.tag(value)
        if found is not None and isinstance(value, set | frozenset):
            return found | {"value": sorted(map(_encode, value))}
    except Exception:  # noqa: BLE001 - properties and serializers are the user's code
        found = None
    return found if found is not None else _opaque(value)


def _opaque(value: object) -> tagged.Tagged:
    return {TYPE: "opaque", "class": tagged.reference(type(value))}


_encode = json.JSONEncoder(sort_keys=True, default=_leaf, separators=(",", ":")).encode


def _canonical(value: object, above: tuple[int, ...]) -> object:
    """`value` in types that any JSON encoder takes; what contains itself or raises is as opaque as the unknown."""
    if id(value) in above or len(above) > MAX_DEPTH:
        return _opaque(value)
    try:
        return _canonical_parts(value, (*above, id(value)))
    except Exception:  # noqa: BLE001 - the user's containers may do anything
        return _opaque(value)


def _canonical_parts(value: object, above: tuple[int, ...]) -> object:
    if isinstance(value, int) and value.bit_length() > PLAIN_BITS:
        return hex(value)
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        pairs = [[_canonical(key, above), _canonical(item, above)] for key, item in value.items()]
        return {TYPE: "dict", "value": sorted(pairs, key=json.dumps)}
    if isinstance(value, list | tuple):
        return [_canonical(item, above) for item in value]
    return _canonical(_leaf(value), above)
