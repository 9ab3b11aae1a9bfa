"""The operators of event filters: what each takes, and its test of a payload value.

The words are Trigger.dev v2's. `$not` is not here: it holds a condition, so `filters` reads it.
The one rule: a test answers for any operand that `OPERANDS` accepts and any JSON value, and never raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

Test = Callable[[object, object], bool]

SCALARS = (str, int, float, type(None))
MISSING = object()
"""Stands for the value of a key that the payload lacks."""


class Operand(NamedTuple):
    wanted: str
    fits: Callable[[object], bool]


def elements(value: object) -> Sequence[object]:
    """What a condition looks at: a list's elements, or the value itself."""
    if value is MISSING:
        return ()
    return value if isinstance(value, list) else (value,)


def same(left: object, right: object) -> bool:
    """Equality of scalars as JSON sees it: 1 equals 1.0, but not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return isinstance(right, SCALARS) and left == right


def _is_text(operand: object) -> bool:
    return isinstance(operand, str)


def _is_bool(operand: object) -> bool:
    return isinstance(operand, bool)


def _is_number(operand: object) -> bool:
    if isinstance(operand, float):
        return math.isfinite(operand)
    return isinstance(operand, int) and not isinstance(operand, bool)


def _is_scalar(operand: object) -> bool:
    return isinstance(operand, SCALARS)


def _is_scalars(operand: object) -> bool:
    return _is_scalar(operand) or (
        isinstance(operand, list | tuple) and bool(operand) and all(map(_is_scalar, operand))
    )


def _is_range(operand: object) -> bool:
    if not isinstance(operand, list | tuple) or len(operand) != 2:
        return False
    return all(map(_is_number, operand)) and bool(operand[0] <= operand[1])


def _text(test: Callable[[str, str], bool]) -> Test:
    return lambda operand, value: isinstance(operand, str) and isinstance(value, str) and test(value, operand)


def _number(test: Callable[[float, float], bool]) -> Test:
    return lambda operand, value: (
        isinstance(operand, int | float)
        and isinstance(value, int | float)
        and _is_number(value)
        and test(value, operand)
    )


def _between(operand: object, value: object) -> bool:
    return isinstance(operand, list | tuple) and _is_number(value) and bool(operand[0] <= value <= operand[1])


def _anything_but(operand: object, value: object) -> bool:
    return not any(same(refused, value) for refused in (operand if isinstance(operand, list | tuple) else (operand,)))


def _exists(operand: object, value: object) -> bool:
    return (value is not MISSING) is operand


def _is_null(operand: object, value: object) -> bool:
    return value is not MISSING and (value is None) is operand


def _includes(operand: object, value: object) -> bool:
    return isinstance(value, list) and any(same(operand, element) for element in value)


OPERANDS: dict[str, Operand] = {
    "$startsWith": Operand("text", _is_text),
    "$endsWith": Operand("text", _is_text),
    "$ignoreCaseEquals": Operand("text", _is_text),
    "$exists": Operand("true or false", _is_bool),
    "$gt": Operand("a number", _is_number),
    "$gte": Operand("a number", _is_number),
    "$lt": Operand("a number", _is_number),
    "$lte": Operand("a number", _is_number),
    "$between": Operand("[low, high], both included", _is_range),
    "$includes": Operand("a scalar", _is_scalar),
    "$anythingBut": Operand("a scalar or a list of scalars", _is_scalars),
    "$isNull": Operand("true or false", _is_bool),
}

SINGLE: dict[str, Test] = {
    "$startsWith": _text(str.startswith),
    "$endsWith": _text(str.endswith),
    "$ignoreCaseEquals": _text(lambda value, operand: value.casefold() == operand.casefold()),
    "$gt": _number(lambda value, operand: value > operand),
    "$gte": _number(lambda value, operand: value >= operand),
    "$lt": _number(lambda value, operand: value < operand),
    "$lte": _number(lambda value, operand: value <= operand),
    "$between": _between,
    "$anythingBut": _anything_but,
}
"""Tests of one element; a payload list passes if any element does."""

WHOLE: dict[str, Test] = {
    "$exists": _exists,
    "$isNull": _is_null,
    "$includes": _includes,
}
"""Tests of the value as it stands, a list included."""
