"""Runs as Trigger.dev v4's schemas want them. A field that has no value is left out.

Payloads and results are decoded from JSON only: what a task pickled is no business of a web process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from kombu import serialization
from kombu.exceptions import KombuError
from kombu.utils import json as kombu_json

from triggerapp import ids
from triggerapp.api.http import without_none
from triggerapp.models import Run

Json = Any
Fields = dict[str, Any]

QUEUED = ("PENDING_VERSION", "QUEUED", "DEQUEUED", "DELAYED")
FAILED = ("FAILED", "CRASHED", "SYSTEM_FAILURE", "EXPIRED", "TIMED_OUT")
_JSON = "application/json"


def common(run: Run) -> Fields:
    """What every list and every page of a run shows."""
    status = run.public_status
    fields = {
        "id": ids.show("run", run.id),
        "status": status,
        "taskIdentifier": run.task,
        "version": run.version,
        "idempotencyKey": run.idempotency_key,
        **flags(status),
        "isTest": False,
        "createdAt": when(run.created_at),
        "updatedAt": when(run.updated_at),
        "startedAt": when(run.started_at),
        "finishedAt": when(run.finished_at),
        "delayedUntil": when(run.due_at) if run.started_at is None else None,
        "ttl": _seconds(run.expires_at - run.created_at) if run.expires_at else None,
        "expiredAt": when(run.finished_at) if status == "EXPIRED" else None,
        "tags": run.tags,
        "metadata": run.metadata or None,
        "costInCents": 0,
        "baseCostInCents": 0,
        "durationMs": round(run.computed / timedelta(milliseconds=1)),
    }
    return without_none(fields)


def flags(status: str) -> Fields:
    """The status once more, as yes or no."""
    over = status in ("COMPLETED", "CANCELED", *FAILED)
    return {
        "isQueued": status in QUEUED,
        "isExecuting": status == "EXECUTING",
        "isWaiting": status == "WAITING",
        "isCompleted": over,
        "isSuccess": status == "COMPLETED",
        "isFailed": status in FAILED,
        "isCancelled": status == "CANCELED",
    }


def related(run: Run, *, batch: str | None = None, depth: int = 0) -> Fields:
    """A run as another one's relative."""
    kind = "batchTrigger" if batch else "trigger" if run.parent_wait is None else "triggerAndWait"
    return {**common(run), "depth": depth, "triggerFunction": kind, **({"batchId": batch} if batch else {})}


def payload(run: Run) -> Json:
    """The arguments in the form in which they may be sent again; None if they are not JSON."""
    envelope = json.loads(run.message)
    if envelope["content_type"] != _JSON:
        return None
    args, kwargs, _ = _decode(bytes(run.payload), _JSON) or ([], {}, None)
    if not args:
        return kwargs
    if len(args) == 1 and not kwargs and not isinstance(args[0], dict):
        return args[0]
    return {"args": args, "kwargs": kwargs}


def output(run: Run) -> Json:
    """What the task returned; None if it is not JSON."""
    return None if run.result is None else _decode(bytes(run.result), run.result_type)


def _decode(data: bytes, content_type: str) -> Json:
    try:
        return serialization.loads(data, content_type, "utf-8", accept=[_JSON])
    except KombuError:
        return None


def error(run: Run) -> Fields | None:
    """Why the run failed."""
    if run.finished_at is None or not run.error:
        return None
    return serialized(run.error)


def serialized(recorded: Mapping[str, Any]) -> Fields:
    """A recorded exception."""
    return without_none(
        {
            "name": str(recorded.get("type", "")).rpartition(":")[2] or None,
            "message": str(recorded.get("message", "")),
            "stackTrace": recorded.get("traceback"),
        }
    )


def result(run: Run) -> Fields:
    """How an ended run ended, for those who waited for it."""
    fields = {"id": ids.show("run", run.id), "taskIdentifier": run.task}
    if run.public_status == "COMPLETED":
        text = None if run.result is None else kombu_json.dumps(output(run))
        return {"ok": True, **fields, **without_none({"output": text}), "outputType": _JSON}
    told = error(run) or {"message": f"the run ended as {run.public_status}"}
    kept = {"name": told.get("name", run.public_status), "message": told["message"]}
    return {
        "ok": False,
        **fields,
        "error": {"type": "BUILT_IN_ERROR", **kept, "stackTrace": told.get("stackTrace", "")},
    }


def when(moment: datetime | None) -> str | None:
    """ISO 8601 with a Z, which is what JavaScript reads."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _seconds(span: timedelta) -> str:
    return f"{round(span.total_seconds())}s"
