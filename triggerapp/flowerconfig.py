"""Flower's configuration file (`celery flower --conf=…`): the page of a durable task says where its run is.

Flower writes all that it shows as text, so it is an address to copy. A `flowerconfig.py` of the project's own can
import `format_task` from here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse

from triggerapp.conf import (
    get as settings,
)  # `conf` is an option of Flower's, and would be set to whatever has that name
from triggerapp.engine import catalog


def format_task(task: Any) -> Any:
    """The task with one more field, `dashboard`."""
    if task.name and catalog.durable_task(task.name) is not None:
        task.dashboard = _address(task.uuid)
        task._fields = (*task._fields, "dashboard")
    return task


def _address(task_id: str) -> str:
    """By its task id, which need not be the run's; empty where no dashboard is mounted."""
    try:
        runs = reverse("triggers:runs")
    except NoReverseMatch:
        return ""
    return f"{settings().BASE_URL.rstrip('/')}{runs}?{urlencode({'text': task_id, 'period': 'all'})}"
