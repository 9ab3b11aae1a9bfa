"""Event filters: the language, and what an index needs to find the filters an event satisfies.

A filter is a dict; a payload matches if every key holds (AND) at the same nesting:

    {"status": ["paid", "free"], "user": {"id": 7}, "total": {"$gte": 10, "$lt": 100}}

* a scalar is equality; a list is OR over scalars and operator objects; several operators in one
  object are AND; a dict without operators is a filter on what is nested there;
* a payload list matches if any element does (one level); `$exists $isNull $includes $not` look
  at the value as it stands;
* a key that the payload lacks fails, except under `{"$exists": false}` and `$not`;
* numbers compare by value (1 equals 1.0), a bool is no number, text compares exactly.

The vocabulary is Trigger.dev v2's (packages/core/src/eventFilterMatches.ts), after EventBridge, with `$not` added.
Where the two disagree this follows EventBridge: v2 reads a list of operators as AND, does not look into payload
lists for scalars, and lets `$anythingBut` and `{"$isNull": false}` pass for a missing key.

The one rule: whatever `matches` accepts, the index must find. `signatures` and `containments` may
find too much, never too little, so a hit is always checked with `matches`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from triggerapp.engine import operators
from triggerapp.engine.operators import MISSING, SCALARS, elements, same
from triggerapp.errors import BadFilter

Filter = Mapping[str, object]
Path = tuple[str, ...]

MAX_DEPTH = 32
FILTER_COMBINATIONS = 32
"""Signatures of one filter."""
EVENT_COMBINATIONS = 1024
"""Signatures of one event for one shape of several paths."""
CONTAINMENTS = 128
"""Documents for one path; a path that needs more is left to `matches`."""
PATH_CHARACTERS = 500
"""A longer path is not indexed; it would not fit its column."""
INTEGER_BITS = 1024
"""No larger integer equals a float, and Python refuses to print a much larger one."""


# --- checking -----------------------------------------------------------------------------------


def check(filter: Filter) -> None:
    """Raise `BadFilter` unless `filter` is well formed."""
    _check_filter(filter, "filter", depth=MAX_DEPTH)


def _check_filter(node: object, path: str, *, depth: int) -> None:
    if not isinstance(node, dict):
        raise BadFilter(f"{path} must be a dict of payload keys, not {_type(node)}")
    if depth == 0:
        raise BadFilter(f"{path} is nested deeper than {MAX_DEPTH} levels")
    for key, condition in node.items():
        _check_text(key, path)
        if key.startswith("$"):
            raise BadFilter(f"{path} has the operator {key} where a payload key belongs; put it under a key")
        _check_condition(condition, f"{path}.{key}", depth=depth - 1)


def _check_condition(condition: object, path: str, *, depth: int) -> None:
    if isinstance(condition, dict):
        _check_dict(condition, path, depth=depth)
        return
    if not isinstance(condition, list | tuple):
        _check_scalar(condition, path)
        return
    if not condition:
        raise BadFilter(f"{path} is an empty list, which nothing can match; leave the key out to accept any value")
    for index, option in enumerate(condition):
        _check_option(option, f"{path}[{index}]", depth=depth)


def _check_option(option: object, path: str, *, depth: int) -> None:
    if not isinstance(option, dict):
        _check_scalar(option, path)
        return
    if not _is_operators(option):
        raise BadFilter(f"{path} must be a scalar or an operator object; a nested filter stands outside the list")
    _check_dict(option, path, depth=depth)


def _check_dict(node: Mapping[str, object], path: str, *, depth: int) -> None:
    if not node:
        raise BadFilter(f'{path} is empty; use {{"$exists": true}} to accept any value')
    if not _is_operators(node):
        _check_filter(node, path, depth=depth)
        return
    if depth == 0:
        raise BadFilter(f"{path} is nested deeper than {MAX_DEPTH} levels")
    for name, operand in node.items():
        _check_operator(name, operand, path=path, depth=depth)


def _check_operator(name: str, operand: object, *, path: str, depth: int) -> None:
    if name == "$not":
        _check_condition(operand, f"{path}.$not", depth=depth - 1)
        return
    if name not in operators.OPERANDS:
        raise BadFilter(
            f"{path} has {name!r}, which is no operator; the operators are {' '.join(operators.OPERANDS)} $not"
        )
    wanted, fits = operators.OPERANDS[name]
    if not fits(operand):
        raise BadFilter(f"{path}.{name} takes {wanted}, not {operand!r}")
    for part in operand if isinstance(operand, list | tuple) else (operand,):
        _check_scalar(part, f"{path}.{name}")


def _check_scalar(value: object, path: str) -> None:
    if isinstance(value, str):
        _check_text(value, path)
        return
    if not isinstance(value, SCALARS):
        raise BadFilter(f"{path} must be text, a number, a bool or null, not {_type(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadFilter(f"{path} is {value}, which JSON cannot carry")
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
        raise BadFilter(f"{path} has an integer of {value.bit_length()} bits; {INTEGER_BITS} is the most")


def _check_text(text: object, path: str) -> None:
    if not isinstance(text, str):
        raise BadFilter(f"{path} has the key {text!r}; keys are text")
    if "\0" in text or (not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)):
        raise BadFilter(f"{path} has text with a NUL character or a lone surrogate, which PostgreSQL cannot store")


def _type(value: object) -> str:
    return type(value).__name__


# --- matching -----------------------------------------------------------------------------------


def matches(filter: Filter, payload: object) -> bool:
    """Whether `payload`, a JSON value, satisfies `filter`."""
    if not isinstance(payload, dict):
        return not filter
    return all(_holds(condition, payload.get(key, MISSING)) for key, condition in filter.items())


def _holds(condition: object, value: object) -> bool:
    if isinstance(condition, list | tuple):
        return any(_holds(option, value) for option in condition)
    if not isinstance(condition, dict):
        return any(same(condition, element) for element in elements(value))
    if _is_operators(condition):
        return _operators_hold(condition, value)
    return any(isinstance(element, dict) and matches(condition, element) for element in elements(value))


def _operators_hold(conditions: Mapping[str, object], value: object) -> bool:
    """Operators on the value as it stands, then all the others on one and the same element."""
    if "$not" in conditions and _holds(conditions["$not"], value):
        return False
    if not all(
        operators.WHOLE[name](operand, value) for name, operand in conditions.items() if name in operators.WHOLE
    ):
        return False
    single = [(operators.SINGLE[name], operand) for name, operand in conditions.items() if name in operators.SINGLE]
    if not single:
        return True
    return any(all(test(operand, element) for test, operand in single) for element in elements(value))


def _is_operators(node: Mapping[str, object]) -> bool:
    return any(isinstance(key, str) and key.startswith("$") for key in node)


# --- indexing -----------------------------------------------------------------------------------


def shape(filter: Filter) -> tuple[str, ...]:
    """The paths that `filter` pins by equality alone, sorted: `user.id`, with `.` in a key as `~1` and `~` as `~0`.

    Paths with the most values are left out until at most 32 combinations of values remain.
    """
    sizes = {path: len(values) for path, values in _pinned(filter).items() if len(path) <= PATH_CHARACTERS}
    while math.prod(sizes.values()) > FILTER_COMBINATIONS:
        sizes.pop(max(sizes, key=lambda path: (sizes[path], path)))
    return tuple(sorted(sizes))


def signatures(name: str, shape: tuple[str, ...], filter: Filter) -> list[int]:
    """Signed 64-bit hashes of the values that `filter` pins on `shape`, one per combination.

    With several paths there is one more, for the shape itself: see `event_signatures`.
    """
    pinned = _pinned(filter)
    hashes = _hashes(name, shape, [pinned[path] for path in shape])
    if len(shape) > 1:
        hashes.append(_shape_hash(name, shape))
    return hashes


def event_signatures(name: str, shape: tuple[str, ...], payload: object) -> list[int]:
    """The signatures that a filter of this name and shape can have if it matches `payload`.

    Lists in the payload multiply. Over 1024 combinations the answer is the one signature that all
    filters of the shape share, so such an event is checked against each of them: slow, but none is
    missed. A single path cannot multiply and is never cut off.
    """
    choices = [_scalars_at(payload, _keys(path)) for path in shape]
    if len(shape) > 1 and math.prod(map(len, choices)) > EVENT_COMBINATIONS:
        return [_shape_hash(name, shape)]
    return _hashes(name, shape, choices)


def containments(filter: Filter) -> list[list[dict[str, object]]]:
    """Conditions on past payloads for PostgreSQL: AND of ORs of `payload @> document`.

    Each is necessary for a match and none is sufficient. A path has a document for each value and for each way
    in which lists may stand on it; a path with over 128 of them has no condition.
    """
    pins = [(_keys(path), values.values()) for path, values in _pinned(filter).items()]
    return [
        [document for value in values for document in _documents(keys, value)]
        for keys, values in pins
        if len(values) * 2 ** len(keys) <= CONTAINMENTS
    ]


def _documents(keys: Path, value: object) -> list[dict[str, object]]:
    forms: list[object] = [value, [value]]
    for key in reversed(keys[1:]):
        nested = [{key: form} for form in forms]
        forms = [*nested, *([form] for form in nested)]
    return [{keys[0]: form} for form in forms]


def _pinned(filter: Filter) -> dict[str, dict[str, object]]:
    return {path: _distinct(values) for path, values in _pins(filter, ())}


def _pins(node: Filter, above: Path) -> Iterator[tuple[str, Sequence[object]]]:
    """Each pinned path with its values."""
    for key, condition in node.items():
        path = (*above, key)
        if isinstance(condition, dict):
            if not _is_operators(condition):
                yield from _pins(condition, path)
            continue
        values = condition if isinstance(condition, list | tuple) else (condition,)
        if all(isinstance(value, SCALARS) for value in values):
            yield (
                ".".join(part.replace("~", "~0").replace(".", "~1") for part in path),
                values,
            )


def _keys(path: str) -> Path:
    return tuple(part.replace("~1", ".").replace("~0", "~") for part in path.split("."))


def _scalars_at(payload: object, keys: Path) -> dict[str, object]:
    nodes: Sequence[object] = [payload]
    for key in keys:
        found = [node[key] for node in nodes if isinstance(node, dict) and key in node]
        nodes = [element for value in found for element in elements(value)]
    return _distinct(nodes)


def _distinct(values: Sequence[object]) -> dict[str, object]:
    """The scalars among `values` by canonical text, without those that are `same`."""
    return {_canonical(value): value for value in values if isinstance(value, SCALARS)}


def _canonical(value: object) -> str:
    """One text for all that `same` calls equal."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
        return f"{value:#x}"
    return json.dumps(value)


def _hashes(name: str, shape: tuple[str, ...], choices: Sequence[Iterable[str]]) -> list[int]:
    start = hashlib.blake2b(json.dumps([name, shape]).encode(), digest_size=8)
    return [_finish(start, f"[{','.join(values)}]") for values in product(*choices)]


def _shape_hash(name: str, shape: tuple[str, ...]) -> int:
    return _finish(hashlib.blake2b(json.dumps([name, shape]).encode(), digest_size=8), "*")


def _finish(start: hashlib.blake2b, text: str) -> int:
    hasher = start.copy()
    hasher.update(text.encode())
    return int.from_bytes(hasher.digest(), "big", signed=True)
