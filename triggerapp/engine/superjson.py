"""SuperJSON, as the SDK of Trigger.dev writes payloads: JSON beside a note of which values were more than that.

Dates become aware datetimes, bigints numbers, maps dicts; what Python has no value for is refused by its path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from triggerapp.engine import strictjson
from triggerapp.engine.durations import moment
from triggerapp.errors import BadInput

Json = Any
_DEEPEST = 100
_STEP = re.compile(r"(?:[^.\\]|\\.)+")


def loads(text: str) -> Json:
    """The value. Raises `BadInput`."""
    try:
        document = strictjson.loads(text)
    except ValueError as error:
        raise BadInput(f"the payload is not SuperJSON: {error}") from error
    if not isinstance(document, dict) or "json" not in document:
        raise BadInput("the payload is not SuperJSON: it must be an object with a field named json")
    value = document["json"]
    meta = document.get("meta") or {}
    if not isinstance(meta, dict) or meta.get("referentialEqualities"):
        raise BadInput("the payload holds one object in two places: send copies of it")
    return _revive(value, meta.get("values") or {}, "payload", 0)


def _revive(value: Json, notes: Json, path: str, depth: int) -> Json:
    """Notes are a tree: `["Date"]` for the value itself, `[type, {path: notes}]`, or `{path: notes}` alone."""
    if depth > _DEEPEST:
        raise BadInput(f"{path:.200} is nested too deep")
    own, inner = _split(notes, path)
    for key, note in inner.items():
        value = _revive_at(value, [part.replace("\\", "") for part in _STEP.findall(key)], note, path, depth)
    return value if own is None else _typed(own, value, path)


def _split(notes: Json, path: str) -> tuple[Json, Mapping[str, Json]]:
    if isinstance(notes, dict):
        return None, notes
    if isinstance(notes, list) and notes:
        return notes[0], notes[1] if len(notes) > 1 and isinstance(notes[1], dict) else {}
    raise BadInput(f"the payload is not SuperJSON: its note on {path:.200} is none")


def _revive_at(value: Json, steps: list[str], note: Json, path: str, depth: int) -> Json:
    if not steps:
        return _revive(value, note, path, depth + 1)
    first, rest = steps[0], steps[1:]
    try:
        index: Any = int(first) if isinstance(value, list) else first
        inner = value[index]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadInput(f"the payload is not SuperJSON: there is no {path:.200}.{first:.60}") from error
    value[index] = _revive_at(inner, rest, note, f"{path}.{first}", depth + 1)
    return value


def _typed(kind: Json, value: Json, path: str) -> Json:
    revive = _TYPES.get(kind) if isinstance(kind, str) else None
    if revive is None:
        raise BadInput(f"{path:.200} is a {kind!r:.60}, which Python has no value for: send it as text or a number")
    try:
        return revive(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path:.200} is no {kind}: {error}") from error


def _same(value: Json) -> Json:
    return value


_TYPES: Mapping[str, Callable[[Json], Json]] = {
    "Date": lambda value: moment("a Date", value),
    "bigint": int,
    "undefined": lambda value: None,
    "set": _same,
    "map": dict,
    "URL": str,
    "regexp": str,
}
