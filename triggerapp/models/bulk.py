"""Bulk actions: one deed done to many runs, a batch at a time, by the ticks."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class BulkVerb(TextChoices):
    """What is done to each run."""

    CANCEL = "cancel"
    RETRY = "retry"
    REPLAY = "replay"


class BulkStatus(TextChoices):
    """How a bulk action stands; everything but `running` is final."""

    RUNNING = "running"
    COMPLETED = "completed"
    ABORTED = "aborted"
    """A person stopped it; what was done stays done."""


class BulkAction(models.Model):
    """One verb for the runs that were selected, or for all that a filter matched when it was asked for."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(Environment, models.CASCADE, related_name="+")
    verb = models.CharField(max_length=8, choices=BulkVerb)
    name = models.CharField(max_length=255, default="", db_default="")
    """What people call it."""
    status = models.CharField(max_length=16, choices=BulkStatus, default=BulkStatus.RUNNING, db_default="running")
    filter = models.JSONField(null=True)
    """What the runs match; None if they were selected one by one."""
    selected = ArrayField(models.UUIDField(), default=list, db_default=[])
    """Runs that were selected and are still to come."""
    actor = models.CharField(max_length=255)
    cursor = models.CharField(max_length=128, default="", db_default="")
    """How far the list was gone through, from the newest run back."""
    total = models.PositiveIntegerField(null=True)
    """How many runs there are to do; None if that was not counted."""
    done = models.PositiveIntegerField(default=0, db_default=0)
    refused = models.PositiveIntegerField(default=0, db_default=0)
    """Runs in a state in which the verb does nothing."""
    last_refusal = models.TextField(default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(fields=("environment", "id"), name="bulk_running", condition=Q(status="running")),
            models.Index(fields=("environment", "-created_at"), name="bulk_newest"),
        )

    def __str__(self) -> str:
        return f"{self.verb} {self.id}"
