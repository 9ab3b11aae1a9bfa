"""Schedules: tasks that are triggered by the clock, each due time once.

A firing is one due time of a schedule, with the run that it started or the reason why there is none.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class Schedule(models.Model):
    """A cron expression in a time zone, and the task that it triggers."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(Environment, models.CASCADE, related_name="schedules")
    task = models.CharField(max_length=255)
    cron = models.CharField(max_length=255)
    timezone = models.CharField(max_length=64, default="UTC", db_default="UTC")
    external_id = models.CharField(max_length=255, null=True)
    """Whom or what it is for, in the caller's own words; the run is told."""
    deduplication_key = models.CharField(max_length=255)
    """The same key twice is one schedule, changed."""
    active = models.BooleanField(default=True, db_default=True)
    next_at = models.DateTimeField(null=True)
    """When it is due; None while it is not active."""
    last_at = models.DateTimeField(null=True)
    """The due time for which it fired last."""
    created_by = models.CharField(max_length=255, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("environment", "deduplication_key"), name="schedule_key_once"),)
        indexes = (
            models.Index(fields=("environment", "next_at"), name="schedule_due", condition=Q(next_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.task} at {self.cron} {self.timezone}"


class Firing(models.Model):
    """One due time of a schedule."""

    schedule = models.ForeignKey(Schedule, models.CASCADE, related_name="firings", db_index=False)
    due_at = models.DateTimeField()
    run = models.UUIDField(null=True)
    """The run that it started; None if it could not."""
    failure = models.TextField(default="", db_default="")
    """Why there is no run."""
    actor = models.CharField(max_length=255, default="", db_default="")
    """Who did not wait for the clock; empty if it was due."""
    fired_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("schedule", "due_at"), name="firing_once"),)
        indexes = (
            models.Index(fields=("run",), name="firing_of_run", condition=Q(run__isnull=False)),
            models.Index(fields=("fired_at",), name="firing_by_age"),
        )

    def __str__(self) -> str:
        return f"{self.schedule_id} at {self.due_at}"
