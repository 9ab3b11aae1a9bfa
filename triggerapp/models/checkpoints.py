"""Checkpoints: which image a suspended run can be restored from.

The image itself is in the image store, under the row's id. A run has one at most: the newest.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import Run


class Checkpoint(models.Model):
    """The process image of a run, as it stood at a wait."""

    id = models.UUIDField(primary_key=True)
    """Its name in the store; with run, sequence and lease what its seal is bound to."""
    run = models.OneToOneField(Run, models.DO_NOTHING, related_name="checkpoint", db_constraint=False)
    wait = models.UUIDField(null=True)
    """What the process stands at; None if it was stopped in the middle of its work."""
    sequence = models.PositiveIntegerField()
    lease = models.PositiveBigIntegerField()
    attempt = models.PositiveSmallIntegerField()
    crashes = models.PositiveSmallIntegerField()
    """The run's at that time: an attempt that ended otherwise than by a crash makes the image useless."""
    restores = models.PositiveSmallIntegerField(default=0, db_default=0)
    """How often it was taken to be restored."""
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    pipe = models.BigIntegerField()
    """The inode of the pipe that the process printed to."""
    size = models.BigIntegerField()
    """Bytes in the store."""
    image_size = models.BigIntegerField()
    """Bytes of CRIU's images."""
    took = models.DurationField()
    """From standing still to being stored."""
    made_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = (models.Index(fields=("made_at",), name="checkpoint_by_age"),)

    def __str__(self) -> str:
        return f"checkpoint {self.sequence} {self.id}"


class Restore(models.Model):
    """One try to bring a run back from its image, and how it went. For people: nothing is decided by it."""

    run = models.ForeignKey(Run, models.DO_NOTHING, related_name="restores", db_constraint=False, db_index=False)
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    lease = models.PositiveBigIntegerField()
    attempt = models.PositiveSmallIntegerField()
    sequence = models.PositiveIntegerField()
    wait = models.UUIDField(null=True)
    """What the process had stood at."""
    host = models.CharField(max_length=255)
    made_on = models.CharField(max_length=255)
    made_at = models.DateTimeField()
    dumped_in = models.DurationField()
    size = models.BigIntegerField()
    image_size = models.BigIntegerField()
    took = models.DurationField()
    """From the claim's look for an image to the process being awake, or to giving up."""
    problem = models.TextField(default="", db_default="")
    """Why the run was entered again; empty if it was restored."""
    at = models.DateTimeField(db_default=Now())

    class Meta:
        # Written once for each restore, which takes some hundred milliseconds: no hot table.
        indexes = (
            models.Index(fields=("run", "id"), name="restore_of_run"),
            models.Index(fields=("environment", "-at"), name="restore_newest"),
        )

    def __str__(self) -> str:
        return f"restore {self.sequence} of {self.run_id}"
