"""JSON from outside, in the strict sense: no NaN, no key twice in an object, of which one value would have no effect,
and no number or nesting that brings Python or PostgreSQL down."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import isinf
from typing import Any

from triggerapp.engine import limits

Json = Any
_MOST_DIGITS = sys.int_info.default_max_str_digits


def once(pairs: list[tuple[str, Any]]) -> Json:
    """An object each of whose keys is there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(twice[:60])} is there twice")
    return found


def loads(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Json] = once) -> Json:
    """The value; each object is what `pairs` makes of its fields. Raises `ValueError` with the reason."""
    too_deep = ValueError(f"it is nested deeper than {limits.DEEPEST} levels")
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_int=_whole, parse_float=_finite, object_pairs_hook=pairs
        )
    except RecursionError as error:
        raise too_deep from error
    if not limits.is_shallow(value):
        raise too_deep
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits; {_MOST_DIGITS:,} are allowed: send it as text")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(f"it has the number {text[:40]}, and {sys.float_info.max:.1e} is the largest: send it as text")
    return number
