"""Batches: runs that were triggered together from outside.

A batch is announced with the number of its items and sealed when all have come. An item is a run, once for each index.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class Batch(models.Model):
    """So many runs, triggered together."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(Environment, models.CASCADE, related_name="batches")
    run_count = models.PositiveIntegerField()
    idempotency_key = models.CharField(max_length=2048, null=True)
    idempotency_digest = models.CharField(max_length=64, null=True)
    idempotency_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    sealed_at = models.DateTimeField(null=True)
    """When its last item came; until then it takes more."""

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("environment", "idempotency_digest"),
                name="batch_idempotent",
                condition=Q(idempotency_digest__isnull=False),
            ),
        )
        indexes = (models.Index(fields=("created_at",), name="batch_by_age"),)

    def __str__(self) -> str:
        return f"batch {self.id}"


class BatchItem(models.Model):
    """The run of one index of a batch."""

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="items", db_index=False)
    index = models.PositiveIntegerField()
    run = models.UUIDField(db_index=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("batch", "index"), name="batch_item_once"),)

    def __str__(self) -> str:
        return f"{self.batch_id}[{self.index}]"
