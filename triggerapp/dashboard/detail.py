"""Every read of the page of one run. As many queries for a thousand spans as for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from triggerapp import ids
from triggerapp.dashboard import logs, queries, values
from triggerapp.dashboard.queries import RunRow
from triggerapp.engine import sql
from triggerapp.models import Attempt, Checkpoint, Restore, Run, Step, Wait, WaitStatus, Worker

Json = Any
MOST = 1000
"""Steps, and children, that a page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a run came from, beside its parent."""

    schedule: UUID | None
    event: UUID | None
    batch: UUID | None


_ORIGIN = """
SELECT (SELECT schedule_id FROM triggerapp_firing WHERE run = %(run)s LIMIT 1) AS schedule,
  (SELECT event_id FROM triggerapp_start WHERE run = %(run)s LIMIT 1) AS event,
  (SELECT batch_id FROM triggerapp_batchitem WHERE run = %(run)s LIMIT 1) AS batch
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What changes while a run lives."""

    run: RunRow
    environment_id: int
    environment: str
    paused: bool
    message: str
    error: Json
    worker: Worker | None
    attempts: Sequence[Attempt]
    steps: Sequence[Step]
    waits: Sequence[Wait]
    checkpoint: Checkpoint | None
    restores: Sequence[Restore]
    children: Sequence[RunRow]
    origin: Origin
    said: Mapping[tuple[int, str], int]
    """How many lines there are of each attempt and step."""

    @property
    def id_text(self) -> str:
        """Its id, as Celery's task id usually is."""
        return str(self.run.id)

    @property
    def open_waits(self) -> list[Wait]:
        """What it waits for now."""
        return [wait for wait in self.waits if wait.status == WaitStatus.PENDING]

    @property
    def until(self) -> datetime:
        """The end, or now."""
        return self.run.finished_at or self.run.now


def facts(run_id: UUID) -> Facts:
    """All but the large values. Raises `NotFound`."""
    found = queries.by_ids([run_id])
    if not found:
        raise ids.missing("run", run_id, "; ended runs are kept for a while only")
    (row,) = found
    about = Run.objects.select_related("environment", "queue").only(
        "environment__slug", "queue__paused", "message", "error", "environment_id", "queue_id"
    )
    run = about.get(pk=run_id)
    return Facts(
        run=row,
        environment_id=run.environment_id,
        environment=run.environment.slug,
        paused=run.queue.paused,
        message=run.message,
        error=run.error,
        worker=Worker.objects.filter(pk=row.worker).first() if row.worker else None,
        attempts=list(Attempt.objects.filter(run=run_id).order_by("number")),
        steps=list(Step.objects.filter(run=run_id).defer("value").order_by("id")[:MOST]),
        waits=list(Wait.objects.filter(run=run_id).defer("value").order_by("opened_at")[:MOST]),
        checkpoint=Checkpoint.objects.filter(run=run_id).first(),
        restores=list(Restore.objects.filter(run=run_id).order_by("id")[:MOST]),
        children=queries.children(run_id, MOST),
        origin=Origin(**(sql.row(_ORIGIN, {"run": run_id}) or {})),
        said=logs.counts(run_id),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """Payload and result, unless they are too large for a page."""

    payload: bytes | None
    payload_size: int
    result: bytes | None
    result_size: int | None
    result_type: str


_LARGE = (
    "SELECT CASE WHEN octet_length(payload) <= %s THEN payload END AS payload, octet_length(payload) AS payload_size, "
    "CASE WHEN octet_length(result) <= %s THEN result END AS result, octet_length(result) AS result_size, result_type "
    "FROM triggerapp_run WHERE id = %s"
)


def large(run_id: UUID) -> Large:
    """The values of a run."""
    row = sql.row(_LARGE, [values.DECODED_BYTES, values.DECODED_BYTES, run_id])
    if row is None:
        raise ids.missing("run", run_id)
    read: dict[str, Any] = {
        name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()
    }
    return Large(**read)


def journal(run_id: UUID) -> dict[str, Json]:
    """Everything that was recorded, as JSON; values are not decoded."""
    if not Run.objects.filter(pk=run_id).exists():
        raise ids.missing("run", run_id)
    tables = {
        "attempts": Attempt.objects.filter(run=run_id).order_by("number"),
        "steps": Step.objects.filter(run=run_id).order_by("id"),
        "waits": Wait.objects.filter(run=run_id).order_by("opened_at"),
    }
    return {name: [_fields(row) for row in rows] for name, rows in tables.items()}


def _fields(row: Any) -> dict[str, Json]:
    shown = {field.name: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return {name: value for name, value in shown.items() if name not in ("signatures", "idempotency_digest")}
