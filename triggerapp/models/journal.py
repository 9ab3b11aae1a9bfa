"""The journal: a run's steps and waits.

A recorded step never changes. A wait resolves once: value, timeout or cancel, whoever commits first.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import Run, new_id


class Step(models.Model):
    """A call made once and recorded: its value, or its exception."""

    run = models.ForeignKey(Run, models.DO_NOTHING, related_name="steps", db_constraint=False, db_index=False)
    key = models.CharField(max_length=255)
    """Name and occurrence (`charge_card#1`), or the caller's own key."""
    digest = models.CharField(max_length=64)
    """Of the arguments, to find code that changed under a recorded step."""
    lease = models.PositiveBigIntegerField()
    attempt = models.PositiveSmallIntegerField()
    value = models.TextField(null=True)
    """JSON text, in the order in which the code built it."""
    error = models.TextField(null=True)
    undoable = models.BooleanField(default=False, db_default=False)
    """It was made with a rollback."""
    undone = models.BooleanField(default=False, db_default=False)
    """Its rollback ran."""
    superseded = models.BooleanField(default=False, db_default=False)
    """A failure that ended its attempt; the next attempt makes the call again."""
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "run",
                    "key",
                ),
                name="step_once",
                condition=Q(superseded=False),
            ),
        )
        indexes = (models.Index(fields=("run",), name="step_superseded", condition=Q(superseded=True)),)

    def __str__(self) -> str:
        return f"{self.run_id} {self.key}"


class WaitKind(TextChoices):
    """What a wait is for."""

    TIMER = "timer"
    """Nothing but its deadline."""
    EVENT = "event"
    """An event of a name, matching a filter."""
    TOKEN = "token"
    """Someone who holds the token, or calls its URL."""
    RUNS = "runs"
    """The end of one child run, or of a batch."""


class WaitStatus(TextChoices):
    """How a wait stands; everything but `pending` is final."""

    PENDING = "pending"
    RESOLVED = "resolved"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"


class Wait(models.Model):
    """A row that resolves once, with a value."""

    id = models.UUIDField(primary_key=True, default=new_id)
    run = models.ForeignKey(
        Run, models.DO_NOTHING, related_name="waits", null=True, db_constraint=False, db_index=False
    )
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="waits", db_constraint=False, db_index=False
    )
    key = models.CharField(max_length=255)
    kind = models.CharField(max_length=8, choices=WaitKind)
    status = models.CharField(max_length=16, choices=WaitStatus, default=WaitStatus.PENDING, db_default="pending")
    name = models.CharField(max_length=255, default="", db_default="")
    filter = models.JSONField(null=True)
    signatures = ArrayField(models.BigIntegerField(), null=True)
    """What an event must hash to; finding the waits of an event costs O(matches)."""
    remaining = models.PositiveIntegerField(null=True)
    """Child runs that have not ended yet."""
    expires_at = models.DateTimeField(null=True)
    value = models.TextField(null=True)
    event = models.UUIDField(null=True)
    resolved_by = models.CharField(max_length=255, default="", db_default="")
    woken = models.BooleanField(default=False, db_default=False)
    """Its run was told, or needed no telling."""
    tags = ArrayField(models.CharField(max_length=128), default=list, db_default=[])
    idempotency_digest = models.CharField(max_length=64, null=True)
    idempotency_expires_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "run",
                    "key",
                ),
                name="wait_once",
                condition=Q(run__isnull=False),
            ),
            models.UniqueConstraint(
                fields=(
                    "environment",
                    "idempotency_digest",
                ),
                name="wait_idempotent",
                condition=Q(idempotency_digest__isnull=False),
            ),
        )
        indexes = (
            models.Index(
                fields=("environment", "expires_at"),
                name="wait_due",
                condition=Q(status="pending", expires_at__isnull=False),
            ),
            models.Index(
                fields=("environment", "-opened_at", "-id"), name="wait_newest_token", condition=Q(kind="token")
            ),
            models.Index(
                fields=("environment", "id"), name="wait_unwoken", condition=Q(woken=False) & ~Q(status="pending")
            ),
            # Of the page of an event: which waits it reached.
            models.Index(fields=("event",), name="wait_of_event", condition=Q(event__isnull=False)),
            # Without the pending list: a search would read it whole, however few waits match.
            GinIndex(
                fields=("signatures",),
                name="wait_signatures",
                condition=Q(status="pending", kind="event"),
                fastupdate=False,
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
