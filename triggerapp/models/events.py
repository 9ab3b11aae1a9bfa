"""Events: named facts, and who is subscribed to them.

An event is kept for a while, so that a wait opened after it still finds it.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class EventStatus(TextChoices):
    """Whether an event has happened yet."""

    DELIVERED = "delivered"
    """It has reached the waits and tasks that it matches, and reaches waits that are opened later."""
    SCHEDULED = "scheduled"
    """It is to be delivered later; until then nothing sees it."""
    CANCELED = "canceled"
    """It was called off before it was delivered."""


class Event(models.Model):
    """A named fact with a JSON payload."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="events", db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=255)
    payload = models.JSONField()
    external_id = models.CharField(max_length=255, null=True)
    """The sender's own id: the same id twice is one event."""
    source_run = models.UUIDField(null=True)
    status = models.CharField(max_length=16, choices=EventStatus, default=EventStatus.DELIVERED, db_default="delivered")
    deliver_at = models.DateTimeField(null=True)
    """When it is to be delivered, if not at once."""
    created_at = models.DateTimeField(db_default=Now())
    """When it became known: sent, or, where that was later, delivered. Look-back and retention count from here."""

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "environment",
                    "external_id",
                ),
                name="event_once",
                condition=Q(external_id__isnull=False),
            ),
        )
        indexes = (
            models.Index(
                fields=(
                    "environment",
                    "name",
                    "created_at",
                ),
                name="event_by_name",
            ),
            GinIndex(fields=("payload",), name="event_payload", opclasses=["jsonb_path_ops"]),
            # Costs an event that is delivered at once nothing: it is not in it.
            models.Index(fields=("environment", "deliver_at"), name="event_due", condition=Q(status="scheduled")),
        )

    def __str__(self) -> str:
        return self.name


class FilterShape(models.Model):
    """Which payload paths the filters on an event name pin; few rows, one for each place in code that waits."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="+")
    name = models.CharField(max_length=255)
    paths = ArrayField(models.CharField(max_length=512))

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "environment",
                    "name",
                    "paths",
                ),
                name="filter_shape_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.paths}"


class Subscription(models.Model):
    """A task that each event of a name starts, as the code of some worker says."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="subscriptions")
    app = models.CharField(max_length=255)
    """The Celery app whose code says so; only its workers take it back."""
    task = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    """The name of the events; `webhook/<endpoint>/*` stands for all types of an endpoint."""
    filter = models.JSONField(default=dict)
    digest = models.CharField(max_length=64)
    """Of the filter."""
    created_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    """When a worker with this code last said so."""

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("environment", "name", "task", "app", "digest"), name="subscription_once"),
        )

    def __str__(self) -> str:
        return f"{self.task} on {self.name}"


class Start(models.Model):
    """A task that an event is to start, written with the event; then the run that it started."""

    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    event = models.ForeignKey(Event, models.DO_NOTHING, related_name="starts", db_constraint=False, db_index=False)
    task = models.CharField(max_length=255)
    run = models.UUIDField(null=True)
    error = models.TextField(default="", db_default="")
    """Why there is no run: the payload does not fit the task."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("event", "task"), name="start_once"),)
        indexes = (
            models.Index(fields=("environment", "id"), name="start_due", condition=Q(run__isnull=True, error="")),
            # Of the page of a run: which event started it.
            models.Index(fields=("run",), name="start_of_run", condition=Q(run__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.task} by {self.event_id}"
