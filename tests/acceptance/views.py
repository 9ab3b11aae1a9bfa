"""A project's views, which nobody imports but its URLs; one has a task of its own."""

from __future__ import annotations

import os
from typing import Any

from celery import shared_task

from workers import durable_task, wait

urlpatterns: list[Any] = []


@durable_task
@shared_task
def asked_for_by_a_view() -> bool:
    """Whether it is still in the process that it began in, after a wait."""
    pid = os.getpid()
    wait.sleep(0.2)
    return os.getpid() == pid
