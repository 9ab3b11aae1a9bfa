"""What a durable task was told, and what it does where it was told nothing.

A task converted from Celery keeps what its Celery options say about retries; a task that says
nothing gets ours: 3 attempts, 1 s to 60 s, exponential with jitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from workers.retry import RetryPolicy

if TYPE_CHECKING:
    from celery.app.task import Task

Deadline = timedelta | datetime


class TriggerOptions(TypedDict, total=False):
    """Ours, beside all of `apply_async`'s own."""

    delay: Deadline | None
    ttl: Deadline | None
    tags: Sequence[str]
    metadata: dict[str, Any]
    idempotency_key: str | None
    idempotency_ttl: timedelta | None
    idempotency_scope: str
    concurrency_key: str | None
    max_duration: timedelta | None
    max_attempts: int | None


NAMES = frozenset(TriggerOptions.__annotations__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """A durable task's own options."""

    retry: RetryPolicy | None = None
    """None: what the task's Celery options say, or our default where they say nothing."""
    defaults: TriggerOptions = field(default_factory=TriggerOptions)


def policy(task: Task[Any, Any], retry: RetryPolicy | None, *, max_attempts: int | None) -> RetryPolicy | None:
    """Who retries a failed attempt: this policy, or None for Celery's own options."""
    if max_attempts is not None:
        return replace(retry or RetryPolicy(), max_attempts=max_attempts)
    if retry is not None:
        return retry
    return None if _celery_retries(task) else RetryPolicy()


def _celery_retries(task: Task[Any, Any]) -> bool:
    """Whether the task's options or its current request say that Celery's retries are in use."""
    from celery.app.task import Task as Plain  # noqa: PLC0415  (the class, for its defaults)

    return bool(
        getattr(task, "autoretry_for", None)
        or task.max_retries != Plain.max_retries
        or task.default_retry_delay != Plain.default_retry_delay
        or task.request.retries
    )
