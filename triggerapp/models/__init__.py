"""The tables. The ORM is the storage interface; PostgreSQL is the only database."""

from triggerapp.models.checkpoints import Checkpoint
from triggerapp.models.control import AuditEntry, Environment, Queue, Worker
from triggerapp.models.events import Event, FilterShape
from triggerapp.models.journal import Step, Wait, WaitKind, WaitStatus
from triggerapp.models.moves import FINAL, LIVE, Status
from triggerapp.models.runs import Attempt, Run

__all__ = [
    "FINAL",
    "LIVE",
    "Attempt",
    "AuditEntry",
    "Checkpoint",
    "Environment",
    "Event",
    "FilterShape",
    "Queue",
    "Run",
    "Status",
    "Step",
    "Wait",
    "WaitKind",
    "WaitStatus",
    "Worker",
]
