"""Runs as the database has them: what tests ask of one, and how they let its time pass instead of waiting for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from tests.acceptance import cluster
from triggerapp.models import Run, Wait, Worker

HOUR = timedelta(hours=1)


def run_of(result: Any) -> Run:
    return Run.objects.get(task_id=result.id)


def status(result: Any) -> str:
    return run_of(result).status


def make_due(result: Any) -> None:
    """The timer that the run waits for is over now."""
    Wait.objects.filter(run__task_id=result.id).update(expires_at=Now())


def make_untold_long(result: Any) -> None:
    """The run has ended so long ago that somebody should have told Celery."""
    Run.objects.filter(task_id=result.id).update(sent_at=Now() - 2 * HOUR, finished_at=Now() - HOUR)


def end_leases(dead: cluster.Worker) -> None:
    """Those of a worker that was killed, as time would: theirs are long, so that no busy machine outlasts them."""
    Worker.objects.filter(hostname=dead.hostname).update(expires_at=Now())
