"""Changing a run's metadata and tags from outside, one run at a time and under its lock.

Operations are Trigger.dev's: a key, or a path such as `$.progress.done`, is set, deleted, counted up, appended to.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from triggerapp import conf, ids
from triggerapp.engine import audit, limits, sql
from triggerapp.errors import BadInput

Json = Any
Metadata = dict[str, Any]
_SEGMENTS = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+)*")
_MOST_OPERATIONS = 1000


def change(run_id: UUID, *, replace: Json, operations: Sequence[Mapping[str, Json]], actor: str) -> Metadata:
    """Replace the run's metadata, if `replace` is one, then apply the operations; what it is now."""
    with transaction.atomic():
        row = sql.row("SELECT environment_id, metadata FROM triggerapp_run WHERE id = %s FOR UPDATE", [run_id])
        if row is None:
            raise ids.missing("run", run_id)
        before = json.loads(row["metadata"]) if isinstance(row["metadata"], str) else row["metadata"]
        after = apply(before if replace is None else replace, operations)
        limits.check_metadata(after)
        sql.run(
            "UPDATE triggerapp_run SET metadata = %s::jsonb, updated_at = now() WHERE id = %s",
            [json.dumps(after), run_id],
        )
        audit.record(row["environment_id"], actor, "run.metadata", run_id, before=before, after=after)
    return after


def apply(metadata: Json, operations: Sequence[Mapping[str, Json]]) -> Metadata:
    """The metadata after these operations. Raises `BadInput` for what is none."""
    limits.check_metadata(metadata)
    if len(operations) > _MOST_OPERATIONS:
        raise BadInput(f"at most {_MOST_OPERATIONS} operations at once")
    found: Metadata = copy.deepcopy(metadata or {})
    for operation in operations:
        kind = str(operation.get("type"))
        if kind == "update" and isinstance(operation.get("value"), dict):
            found.update(operation["value"])
        elif kind in _ONE_KEY:
            holder, key = _place(found, operation.get("key"))
            _ONE_KEY[kind](holder, key, operation.get("value"))
        else:
            raise BadInput(f"{kind!r:.60} is no operation on metadata; these are: update, {', '.join(_ONE_KEY)}")
    return found


def _place(metadata: Metadata, key: Json) -> tuple[Metadata, str]:
    """The object that a key or path points into, made on the way, and the last name."""
    if not isinstance(key, str) or not key:
        raise BadInput("an operation on metadata needs a key")
    if not key.startswith("$."):
        return metadata, key
    if not _SEGMENTS.fullmatch(key[2:]):
        raise BadInput(f"the path {key!r:.80} must be names with dots between them, as in $.progress.done")
    *way, last = key[2:].split(".")
    for name in way:
        metadata = metadata.setdefault(name, {})
        if not isinstance(metadata, dict):
            raise BadInput(f"{name!r:.60} in the path {key!r:.80} is no object")
    return metadata, last


def _set(holder: Metadata, key: str, value: Json) -> None:
    holder[key] = value


def _delete(holder: Metadata, key: str, value: Json) -> None:
    holder.pop(key, None)


def _append(holder: Metadata, key: str, value: Json) -> None:
    present = holder.get(key, [])
    holder[key] = [*(present if isinstance(present, list) else [present]), value]


def _remove(holder: Metadata, key: str, value: Json) -> None:
    if isinstance(holder.get(key), list):
        holder[key] = [item for item in holder[key] if item != value]


def _increment(holder: Metadata, key: str, value: Json) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput("increment needs a number")
    present = holder.get(key)
    if isinstance(present, bool) or not isinstance(present, int | float | None):
        raise BadInput(f"increment: {key!r:.60} holds {present!r:.60}, which is no number; it stays as it is")
    holder[key] = (present or 0) + value


_ONE_KEY: Mapping[str, Callable[[Metadata, str, Json], None]] = {
    "set": _set,
    "delete": _delete,
    "append": _append,
    "remove": _remove,
    "increment": _increment,
}


def add_tags(run_id: UUID, tags: Sequence[str], *, actor: str) -> list[str]:
    """Add tags to the run; all it has now. Raises `BadInput` if these would be too many."""
    with transaction.atomic():
        row = sql.row("SELECT environment_id, tags FROM triggerapp_run WHERE id = %s FOR UPDATE", [run_id])
        if row is None:
            raise ids.missing("run", run_id)
        before = list(row["tags"])
        after = list(dict.fromkeys([*before, *tags]))
        limits.check_tags(tags)
        if len(after) > conf.get().MAX_TAGS:
            raise BadInput(f"the run has {len(before)} tags; with these it would have more than {conf.get().MAX_TAGS}")
        sql.run("UPDATE triggerapp_run SET tags = %s::varchar[], updated_at = now() WHERE id = %s", [after, run_id])
        audit.record(row["environment_id"], actor, "run.tags", run_id, before=before, after=after)
    return after
