"""Runs as rows of an Electric shape, which is how Trigger.dev's SDK subscribes to them.

The protocol: a first answer with the rows as they are, then questions that are held until something changes. An offset
says what the asker has: the newest change among the rows and a digest of them. Values are texts, as PostgreSQL writes
them, with their types in a header; names and statuses are those of Trigger.dev's own table.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from kombu.utils import json as kombu_json
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import parameters, rendering
from triggerapp.errors import BadInput
from triggerapp.models import Run

Json = Any
Row = dict[str, str | None]

_RELATION = ["public", "TaskRun"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OVERLAP = timedelta(seconds=10)
"""A transaction is dated when it begins: one that ends later may be older than what was told already."""
_JSON = "application/json"
_TYPES = {
    **{name: {"type": "text"} for name in "id friendlyId taskIdentifier status idempotencyKey".split()},
    **{name: {"type": "text"} for name in "payload payloadType output outputType metadata metadataType".split()},
    **{
        name: {"type": "timestamp"}
        for name in "createdAt updatedAt startedAt delayUntil queuedAt expiredAt completedAt".split()
    },
    **{name: {"type": "int4"} for name in ("number", "usageDurationMs")},
    **{name: {"type": "float8"} for name in ("costInCents", "baseCostInCents")},
    **{name: {"type": "text", "dims": 1} for name in ("runTags", "realtimeStreams")},
    "isTest": {"type": "bool"},
    "error": {"type": "jsonb"},
}
_STATUSES = {
    "QUEUED": "PENDING",
    "WAITING": "WAITING_TO_RESUME",
    "COMPLETED": "COMPLETED_SUCCESSFULLY",
    "FAILED": "COMPLETED_WITH_ERRORS",
}
_LARGE = {"payload": ("message", "payload"), "output": ("result",)}
"""What is read of a run for these columns only."""
_NEEDED = ("id", "friendlyId", "taskIdentifier", "status", "createdAt", "updatedAt")


def skipped(text: str) -> frozenset[str]:
    """The columns that a subscriber wants to do without."""
    names = frozenset(parameters.texts("skipColumns", text) if text else ())
    for name in names:
        if name not in _TYPES or name in _NEEDED:
            raise BadInput(f"skipColumns={name!r:.60}: there are {', '.join(n for n in _TYPES if n not in _NEEDED)}")
    return names


def answer(runs: Sequence[Run], *, handle: str, offset: str, skip: frozenset[str]) -> Response | None:
    """What is new to somebody who is at this offset; None if nothing is.

    Only status and time are looked at of what is there: the rows are read of those runs that are new.
    """
    here = _offset(runs)
    if offset == here:
        return None
    since = _newest_of(offset)
    new = [run.id for run in runs if since is None or run.updated_at > since - _OVERLAP]
    operation = "insert" if since is None else "update"
    return _response([_change(run, operation, skip) for run in _whole(new, skip)], handle=handle, offset=here)


def _whole(runs: Sequence[UUID], skip: frozenset[str]) -> list[Run]:
    unwanted = [column for name in skip & _LARGE.keys() for column in _LARGE[name]]
    found = Run.objects.defer(*unwanted).in_bulk(runs)
    return [found[run] for run in runs if run in found]


def unchanged(*, handle: str, offset: str) -> Response:
    """Nothing has happened within the time that a question is held."""
    return _response([], handle=handle, offset=offset)


def start_again(handle: str) -> Response:
    """The asker has another shape than this."""
    response = Response([{"headers": {"control": "must-refetch"}}], status=409)
    response["electric-handle"] = handle
    return response


def _response(changes: list[Json], *, handle: str, offset: str) -> Response:
    response = Response([*changes, {"headers": {"control": "up-to-date"}}])
    headers = {"handle": handle, "offset": offset, "schema": json.dumps(_TYPES), "up-to-date": ""}
    for name, value in {**headers, "cursor": str(int(time.time()))}.items():
        response[f"electric-{name}"] = value
    response["Cache-Control"] = "no-store"
    return response


def _offset(runs: Iterable[Run]) -> str:
    """`0_0` for no rows: an asker without an offset sends -1."""
    states = [(run.updated_at, str(run.id), run.status) for run in runs]
    if not states:
        return "0_0"
    newest = (max(states)[0] - _EPOCH) // timedelta(microseconds=1)
    return f"{newest}_{zlib.crc32(repr(sorted(states)).encode())}"


def _newest_of(offset: str) -> datetime | None:
    """The moment in an offset; None at the beginning."""
    if offset in ("-1", "now"):
        return None
    micros, _, digest = offset.partition("_")
    if not (micros.isdecimal() and digest.isdecimal() and len(micros) < 18):
        raise BadInput("the offset is not one of ours; begin again with -1")
    return _EPOCH + timedelta(microseconds=int(micros))


def _change(run: Run, operation: str, skip: frozenset[str]) -> Json:
    value = {name: text for name, text in _row(run, skip).items() if name not in skip}
    key = f'"public"."TaskRun"/"{run.id}"'
    return {"key": key, "value": value, "headers": {"operation": operation, "relation": _RELATION}}


def _row(run: Run, skip: frozenset[str]) -> Row:
    status, ended = run.public_status, run.finished_at is not None
    payload = None if "payload" in skip else rendering.payload(run)
    output = rendering.output(run) if ended and "output" not in skip else None
    return {
        "id": str(run.id),
        "friendlyId": ids.show("run", run.id),
        "taskIdentifier": run.task,
        "status": _STATUSES.get(status, status),
        "idempotencyKey": run.idempotency_key,
        **_moments(run, status),
        "number": "0",
        "isTest": "false",
        "usageDurationMs": str(round(run.computed / timedelta(milliseconds=1))),
        "costInCents": "0",
        "baseCostInCents": "0",
        "runTags": _array(run.tags),
        "realtimeStreams": "{}",
        **_packet("payload", payload),
        **_packet("output", output),
        **_packet("metadata", run.metadata or None),
        "error": _error(run),
    }


def _moments(run: Run, status: str) -> Row:
    moments = {
        "createdAt": run.created_at,
        "updatedAt": run.updated_at,
        "startedAt": run.started_at,
        "delayUntil": run.due_at if run.started_at is None else None,
        "queuedAt": run.sent_at,
        "expiredAt": run.finished_at if status == "EXPIRED" else None,
        "completedAt": run.finished_at,
    }
    return {
        name: None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        for name, at in moments.items()
    }


def _packet(name: str, value: Json) -> Row:
    if value is None:
        return {name: None, f"{name}Type": None}
    return {name: kombu_json.dumps(value), f"{name}Type": _JSON}


def _error(run: Run) -> str | None:
    told = rendering.error(run)
    if told is None:
        return None
    kept = {"name": told.get("name", run.public_status), "message": told["message"]}
    return json.dumps({"type": "BUILT_IN_ERROR", **kept, "stackTrace": told.get("stackTrace", "")})


def _array(texts: Iterable[str]) -> str:
    """An array as PostgreSQL writes it."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
