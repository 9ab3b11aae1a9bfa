"""The tables. The ORM is the storage interface; PostgreSQL is the only database."""

from triggerapp.models.access import ApiKey, SpentToken
from triggerapp.models.batches import Batch, BatchItem
from triggerapp.models.bulk import BulkAction, BulkStatus, BulkVerb
from triggerapp.models.checkpoints import Checkpoint
from triggerapp.models.control import AuditEntry, Environment, Queue, Worker
from triggerapp.models.deployments import Deployment, DeploymentStatus, EnvVar
from triggerapp.models.events import Event, FilterShape
from triggerapp.models.journal import Step, Wait, WaitKind, WaitStatus
from triggerapp.models.logs import LogLine
from triggerapp.models.moves import FINAL, LIVE, Status
from triggerapp.models.runs import Attempt, Run
from triggerapp.models.schedules import Firing, Schedule

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
    "Deployment",
    "DeploymentStatus",
    "EnvVar",
    "Environment",
    "Event",
    "FilterShape",
    "Firing",
    "LogLine",
    "Queue",
    "Run",
    "Schedule",
    "SpentToken",
    "Status",
    "Step",
    "Wait",
    "WaitKind",
    "WaitStatus",
    "Worker",
]
