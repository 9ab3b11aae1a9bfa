"""Batches: runs triggered together from outside, in one go or announced first and filled item by item.

An item is accepted together with its run, once for each index: a stream that broke off is simply sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from triggerapp import conf, ids
from triggerapp.engine import audit, calls, limits, sql, triggers
from triggerapp.engine.calls import Call
from triggerapp.engine.triggers import Trigger, Triggered
from triggerapp.errors import BadInput, DatabaseUnavailable, IllegalMove, NotFound, of_one
from triggerapp.models import BatchItem
from triggerapp.models.runs import new_id

MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A batch that takes items, or the one that has the key."""

    id: UUID
    run_count: int
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """How a batch stands after a stream of items."""

    accepted: int
    known: int
    count: int
    expected: int

    @property
    def sealed(self) -> bool:
        """All items are there."""
        return self.count >= self.expected


_FORGET_SPENT_KEY = (
    "UPDATE triggerapp_batch SET idempotency_digest = NULL "
    "WHERE environment_id = %s AND idempotency_digest = %s AND idempotency_expires_at < now()"
)
_ANNOUNCE = (
    "INSERT INTO triggerapp_batch (id, environment_id, run_count, idempotency_key, idempotency_digest, "
    "idempotency_expires_at) VALUES (%s, %s, %s, %s, %s, now() + %s::interval) ON CONFLICT DO NOTHING RETURNING id"
)
_SAME = "SELECT id, run_count FROM triggerapp_batch WHERE environment_id = %s AND idempotency_digest = %s"


def announce(
    environment: int, run_count: int | None, *, actor: str, key: str | None = None, key_ttl: timedelta | None = None
) -> Announced:
    """A batch of so many items, none of which is there yet."""
    if run_count is None:
        raise BadInput(f"runCount is missing: a whole number from 1 to {MOST_ITEMS:,}")
    if type(run_count) is not int or not 1 <= run_count <= MOST_ITEMS:
        raise BadInput(f"runCount={run_count!r:.40} must be a whole number from 1 to {MOST_ITEMS:,}")
    limits.check_text("idempotencyKey", key, most=limits.KEY_CHARACTERS)
    digest = None if key is None else triggers.digest(key)
    with transaction.atomic():
        if digest:
            sql.run(_FORGET_SPENT_KEY, [environment, digest])
        ttl = (key_ttl or conf.get().IDEMPOTENCY_TTL) if digest else None
        row = sql.row(_ANNOUNCE, [new_id(), environment, run_count, key, digest, ttl])
        if row is None:
            return _known(environment, digest)
        audit.record(environment, actor, "batch.create", row["id"], after={"run_count": run_count})
    return Announced(id=row["id"], run_count=run_count, cached=False)


def _known(environment: int, digest: str | None) -> Announced:
    row = sql.row(_SAME, [environment, digest])
    if row is None:
        raise DatabaseUnavailable("the batch with this key is gone; create it again")
    return Announced(id=row["id"], run_count=row["run_count"], cached=True)


def fill(batch: UUID, items: Mapping[int, Call], *, environment: int, actor: str) -> Filled:
    """Accept these items, all or none, but for those that are there already; seal the batch with the last one."""
    with transaction.atomic():
        row = sql.row(
            "SELECT run_count, sealed_at FROM triggerapp_batch WHERE id = %s AND environment_id = %s FOR UPDATE",
            [batch, environment],
        )
        if row is None:
            raise ids.missing("batch", batch)
        beyond = next((index for index in items if not 0 <= index < row["run_count"]), None)
        if beyond is not None:
            last = row["run_count"] - 1
            raise BadInput(f"index={beyond!r:.40} must be 0 to {last}, as the batch was announced with its runCount")
        present = set(BatchItem.objects.filter(batch_id=batch).values_list("index", flat=True))
        new = {index: call for index, call in items.items() if index not in present}
        if new and row["sealed_at"] is not None:
            raise IllegalMove(f"{ids.show('batch', batch)} is complete and takes no more items")
        accept(batch, new, environment=environment, actor=actor)
        count = len(present) + len(new)
        if count >= row["run_count"] and row["sealed_at"] is None:
            sql.run("UPDATE triggerapp_batch SET sealed_at = now() WHERE id = %s", [batch])
    return Filled(accepted=len(new), known=len(items) - len(new), count=count, expected=row["run_count"])


def accept(batch: UUID, items: Mapping[int, Call], *, environment: int, actor: str) -> Sequence[Triggered]:
    """Trigger the items' runs and note which is whose; inside `atomic()`."""
    requests = [_request(index, call) for index, call in items.items()]
    accepted = triggers.trigger_many(requests, environment=environment, actor=actor)
    BatchItem.objects.bulk_create(
        BatchItem(batch_id=batch, index=index, run=run.run_id)
        for index, run in zip(items.keys(), accepted, strict=True)
    )
    return accepted


def _request(index: int, call: Call) -> Trigger:
    """What an item asks for; a refusal names the item."""
    try:
        request = calls.request_of(call)
        triggers.check(request)
    except (BadInput, NotFound) as error:
        raise of_one(f"items[{index}]", error) from error
    return request


def trigger(
    items: Sequence[Call], *, environment: int, actor: str, key: str | None = None
) -> tuple[Announced, Sequence[Triggered]]:
    """A batch that is complete at once; no runs if the key led to an earlier one."""
    with transaction.atomic():
        batch = announce(environment, len(items), actor=actor, key=key)
        if batch.cached:
            return batch, []
        accepted = accept(batch.id, dict(enumerate(items)), environment=environment, actor=actor)
        sql.run("UPDATE triggerapp_batch SET sealed_at = now() WHERE id = %s", [batch.id])
    return batch, accepted


_OLD = (
    "created_at < now() - %s::interval AND NOT EXISTS "
    "(SELECT 1 FROM triggerapp_batchitem i WHERE i.batch_id = triggerapp_batch.id)"
)


def prune(limit: int = 1000) -> int:
    """Delete batches that are older than runs are kept, and whose runs are gone; how many."""
    return sql.delete_some("triggerapp_batch", _OLD, [conf.get().RUN_RETENTION], limit=limit)
