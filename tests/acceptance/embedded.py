"""A program with a worker inside: Celery's own testing worker, in a thread. Prints a result, and whether it waited."""

from __future__ import annotations

import sys

from celery.contrib.testing.worker import start_worker

from workers import setup

setup()

from tests.acceptance.app import app  # noqa: E402
from tests.acceptance.tasks import add  # noqa: E402
from triggerapp.models import Run  # noqa: E402

options = {"pool": "threads", "concurrency": 2, "queues": "acceptance-embedded"}
with start_worker(app, perform_ping_check=False, shutdown_timeout=120, **options):
    result = add.delay(2, 4)
    value = result.get(timeout=120)
    sys.stdout.write(str([value, Run.objects.get(task_id=result.id).waits.count() == 1]))
