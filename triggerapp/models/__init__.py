"""The tables. The ORM is the storage interface; PostgreSQL is the only database."""

from triggerapp.models.access import ApiKey, SpentToken
from triggerapp.models.batches import Batch, BatchItem
from triggerapp.models.bulk import BulkAction, BulkStatus, BulkVerb
from triggerapp.models.checkpoints import Checkpoint, Restore
from triggerapp.models.control import AuditEntry, Environment, Queue, Worker
from triggerapp.models.deployments import Deployment, DeploymentStatus, EnvVar
from triggerapp.models.events import Event, EventStatus, FilterShape, Start, Subscription
from triggerapp.models.journal import Step, Wait, WaitKind, WaitStatus
from triggerapp.models.logs import LogLine
from triggerapp.models.moves import FINAL, LIVE, Status
from triggerapp.models.packets import Packet
from triggerapp.models.runs import Attempt, Run
from triggerapp.models.schedules import Firing, Schedule
from triggerapp.models.webhooks import Delivery, Destination, Endpoint, EndpointSecret, Notice, Preset, Verdict

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
    "Delivery",
    "Deployment",
    "DeploymentStatus",
    "Destination",
    "Endpoint",
    "EndpointSecret",
    "EnvVar",
    "Environment",
    "Event",
    "EventStatus",
    "FilterShape",
    "Firing",
    "LogLine",
    "Notice",
    "Packet",
    "Preset",
    "Queue",
    "Restore",
    "Run",
    "Schedule",
    "SpentToken",
    "Start",
    "Status",
    "Step",
    "Subscription",
    "Verdict",
    "Wait",
    "WaitKind",
    "WaitStatus",
    "Worker",
]
