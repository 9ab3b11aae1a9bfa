"""The tables. The ORM is the storage interface; PostgreSQL is the only database."""

from triggerapp.models.access import ApiKey, SpentToken
from triggerapp.models.batches import Batch, BatchItem
from triggerapp.models.bulk import BulkAction, BulkStatus, BulkVerb
from triggerapp.models.checkpoints import Checkpoint
from triggerapp.models.control import AuditEntry, Environment, Queue, Worker
from triggerapp.models.events import Event, FilterShape
from triggerapp.models.journal import Step, Wait, WaitKind, WaitStatus
from triggerapp.models.moves import FINAL, LIVE, Status
from triggerapp.models.runs import Attempt, Run

__all__ = [
    "FINAL",
    "LIVE",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Batch",
    "BatchItem",
    "BulkAction",
    "BulkStatus",
    "BulkVerb",
    "Checkpoint",
    "Environment",
    "Event",
    "FilterShape",
    "Queue",
    "Run",
    "SpentToken",
    "Status",
    "Step",
    "Wait",
    "WaitKind",
    "WaitStatus",
    "Worker",
]
