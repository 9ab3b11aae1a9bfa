"""Environments, queues, workers and the audit log: what runs live in.

Each row of the other models belongs to one environment.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now


class Environment(models.Model):
    """`dev`, `staging` or `prod`: keys, runs, queues and schedules belong to one."""

    slug = models.SlugField(max_length=32, unique=True)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.slug


class Queue(models.Model):
    """Capacity. Admission (`engine.queues`) is the one place where it is judged."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="queues")
    name = models.CharField(max_length=255)
    paused = models.BooleanField(default=False)
    override = models.PositiveIntegerField(null=True)
    """How many of its runs may run at once, as somebody set it at run time; None for what the code says."""
    overridden_at = models.DateTimeField(null=True)
    overridden_by = models.CharField(max_length=255, null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "environment",
                    "name",
                ),
                name="queue_name_once",
            ),
        )

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """A Celery worker process tree; its heartbeat keeps the leases of its runs alive."""

    id = models.UUIDField(primary_key=True)
    environment = models.ForeignKey(
        Environment, models.CASCADE, related_name="+", null=True, db_constraint=False, db_index=False
    )
    hostname = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(db_index=True)
    """The lease: unless the worker's ticker moves it on, its runs are rescued from then on."""
    waiting = models.TextField(default="", db_default="")
    """How its runs wait, as images or by re-entry, and why; in words."""

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"


class AuditEntry(models.Model):
    """Who did what to which row, with before and after."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="audit", null=True)
    actor = models.CharField(max_length=255)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=255)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = (
            models.Index(
                fields=(
                    "target",
                    "-created_at",
                ),
                name="audit_of_target",
            ),
            BrinIndex(fields=("created_at",), name="audit_by_time"),
        )

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
