"""Public ids: the kind of a row and its id, as every face shows them. What is no id is a row that does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from triggerapp.errors import NotFound

_WORDS: Mapping[str, str] = {"sched": "schedule", "bulk": "bulk action", "waitpoint": "token"}
"""What people call a kind whose ids begin otherwise."""


def show(kind: str, row: object) -> str:
    """`run_…`, `batch_…`, `waitpoint_…`, `queue_…`."""
    return f"{kind}_{row}"


def word(kind: str) -> str:
    """What people call a row of this kind."""
    return _WORDS.get(kind, kind)


def missing(kind: str, row: object, more: str = "") -> NotFound:
    """The refusal of a row that is not there, to be raised; `more` goes on with the sentence."""
    return NotFound(f"there is no {word(kind)} {show(kind, row)}{more}")


def parsed(kind: str, text: str) -> UUID | None:
    """The UUID in a public id, which may also stand alone; None if it is no id."""
    plain = text.removeprefix(f"{kind}_")
    try:
        found = UUID(plain)
    except ValueError:
        return None
    return found if str(found) == plain else None


def read(kind: str, text: str) -> UUID:
    """The same, where a row is named. Raises `NotFound`."""
    found = parsed(kind, text)
    if found is None:
        raise NotFound(f"there is no {word(kind)} {text[:80]}")
    return found
