"""Public ids: the kind of a row and its id. What is no id is a row that does not exist."""

from __future__ import annotations

from uuid import UUID

from triggerapp.errors import NotFound


def show(kind: str, row: object) -> str:
    """`run_…`, `batch_…`, `waitpoint_…`, `queue_…`."""
    return f"{kind}_{row}"


def read(kind: str, text: str) -> UUID:
    """The UUID in a public id, which may also stand alone. Raises `NotFound`."""
    try:
        found = UUID(text.removeprefix(f"{kind}_"))
    except ValueError:
        found = None
    if found is None or str(found) != text.removeprefix(f"{kind}_"):
        raise NotFound(f"there is no {kind} {text[:80]}")
    return found
