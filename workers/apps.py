"""For the standalone project: its web processes and commands trigger through `workers.celery`.

A host project imports its own Celery app, as Celery's documentation says, and does not install this.
"""

from __future__ import annotations

from django.apps import AppConfig


class StandaloneConfig(AppConfig):
    """Makes `workers.celery` the default Celery app of this process, in all its threads."""

    name = "workers"
    label = "triggerapp_standalone"

    def ready(self) -> None:
        from workers.celery import app  # noqa: PLC0415  (it reads the settings, which are complete only now)

        app.set_default()
