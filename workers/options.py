"""What a durable task was told, and what it does where it was told nothing.

A task converted from Celery keeps what its Celery options say about retries; a task that says
nothing gets ours: 3 attempts, 1 s to 60 s, exponential with jitter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict, cast

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Producer

from triggerapp.errors import BadType
from workers.retry import RetryPolicy
from workers.subscribing import On

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
_NOT_OPTIONS = frozenset(
    "self name args kwargs body producer publisher connection router result_cls task_type now".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """A durable task's own options."""

    retry: RetryPolicy | None = None
    """None: what the task's Celery options say, or our default where they say nothing."""
    defaults: TriggerOptions = field(default_factory=TriggerOptions)
    checkpoint: bool | None = None
    """Whether its runs have processes of their own, which are kept as images while they wait, in workers that do so.

    None: those that need it (`workers.light`)."""
    on: tuple[On, ...] = ()
    """The events that start it."""


def check_known(task: Task[Any, Any], options: Mapping[str, Any]) -> None:
    """Raise `TypeError` for an option that neither we nor Celery know, with the nearest one."""
    stamps = options.get("stamped_headers") or ()
    known = NAMES | _celery_options(cast(Any, type(task)))
    for name in options:
        if name not in known and name not in stamps:
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "apply_async passes on what only a router knows"
            raise BadType(f"{task.name} has no option {name!r}; {hint}")


@cache
def _celery_options(cls: type) -> frozenset[str]:
    """What `apply_async` takes on its way to the broker, also that of the task's base classes."""
    calls = [base.__dict__["apply_async"] for base in cls.__mro__ if "apply_async" in base.__dict__]
    found = {name for call in (*calls, Celery.send_task, AMQP.as_task_v2, Producer.publish) for name in _named(call)}
    return frozenset(found - _NOT_OPTIONS) | {"queue", "exchange_type"}  # which Celery takes without a parameter


def _named(call: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(call).parameters.values()
    return [each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]


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
