"""The public API: durable tasks on Celery.

Importing it needs no Django settings and loads no CRIU code, like `shared_task`.
"""

from workers import events, wait
from workers.context import current as _current
from workers.errors import AbortRun, DurableError, Suspend
from workers.handle import RunHandle, RunResult
from workers.resources import checkpointable, warm_up
from workers.retry import RetryPolicy
from workers.setup import setup
from workers.steps import rollback, step
from workers.subscribing import webhook
from workers.task import durable_task
from workers.types import CurrentRun

__all__ = [
    "AbortRun",
    "CurrentRun",
    "DurableError",
    "RetryPolicy",
    "RunHandle",
    "RunResult",
    "Suspend",
    "checkpointable",
    "current_run",
    "durable_task",
    "events",
    "rollback",
    "setup",
    "step",
    "wait",
    "warm_up",
    "webhook",
]


def current_run() -> CurrentRun:
    """The run in progress: id, attempt number, tags, metadata, idempotency key. Raises `NotInRun` elsewhere."""
    return _current("current_run")
