"""Payloads, results and recorded values as text for people.

Only JSON is decoded, never a pickle. What the settings call secret is replaced, and stays what it was when an edited
payload comes back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from triggerapp import redaction
from triggerapp.engine import limits
from triggerapp.redaction import HIDDEN

Json = Any
SHOWN_CHARACTERS = 20_000
DECODED_BYTES = 256 * 1024
"""Larger values are not read for a page; they can be downloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A value as a page shows it."""

    text: str = ""
    size: int = 0
    note: str = ""
    """Why there is no text, or not all of it."""


def shown(data: bytes | str | None, *, size: int | None = None, content_type: str = "application/json") -> Shown:
    """`data`, of which a page may have been spared all if it is large."""
    raw = data.encode() if isinstance(data, str) else data
    length = size if size is not None else len(raw or b"")
    if raw is None:
        return Shown(size=length, note="Too large for a page; download it." if length else "There is none.")
    if content_type != "application/json":
        return Shown(size=length, note=f"It is in {content_type}, which is not decoded here.")
    try:
        text = pretty(json.loads(raw))
    except (ValueError, RecursionError):
        return Shown(size=length, note="It is not JSON.")
    if len(text) > SHOWN_CHARACTERS:
        return Shown(text=text[:SHOWN_CHARACTERS], size=length, note="Only the beginning; download it for the rest.")
    return Shown(text=text, size=length)


def pretty(value: Json) -> str:
    """Indented, in the order it has, without secrets; half a surrogate pair, which no page can hold, stays escaped."""
    return limits.storable(json.dumps(redaction.data(value), indent=2, ensure_ascii=False))


def restored(edited: Json, original: Json) -> Json:
    """An edited value with what was hidden from the editor back in its place."""
    if edited == HIDDEN:
        return original
    if isinstance(edited, dict) and isinstance(original, dict):
        return {k: restored(item, original[k]) if k in original else item for k, item in edited.items()}
    if isinstance(edited, list) and isinstance(original, list) and len(edited) == len(original):
        return [restored(*pair) for pair in zip(edited, original, strict=True)]
    return edited
