"""Events: named facts.

An event is kept for a while, so that a wait opened after it still finds it.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


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
    created_at = models.DateTimeField(db_default=Now())

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
