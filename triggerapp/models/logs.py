"""What runs say: lines of their logs and of what they print.

Lines are for people, no part of a run's state: nothing is decided by them, and they may be cut or deleted before it.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import Run


class LogLine(models.Model):
    """One record of `logging`, or one printed line, in the order of their ids."""

    run = models.ForeignKey(Run, models.DO_NOTHING, related_name="log", db_constraint=False, db_index=False)
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    lease = models.PositiveBigIntegerField()
    """Of the worker that wrote it."""
    attempt = models.PositiveSmallIntegerField()
    step = models.CharField(max_length=255)
    """The key of the step in progress; empty outside of steps."""
    level = models.PositiveSmallIntegerField()
    """As in `logging`; what is printed is INFO on standard output and WARNING on standard error."""
    logger = models.CharField(max_length=255)
    """Its name; `stdout` and `stderr` for what was printed."""
    text = models.TextField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = (
            models.Index(fields=("run", "id"), name="logline_of_run"),
            # Rows come in the order of time: for retention a summary of each range of pages is enough.
            BrinIndex(fields=("at",), name="logline_by_time"),
        )

    def __str__(self) -> str:
        return self.text[:80]
