"""The Django app: what is connected once, when Django is ready."""

from __future__ import annotations

from django.apps import AppConfig


class TriggerappConfig(AppConfig):
    """Durable runs for Celery tasks."""

    name = "triggerapp"
    label = "triggerapp"
    verbose_name = "Triggerapp"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from triggerapp import checks  # noqa: PLC0415  (registers the system checks; Django wants that no earlier)

        checks.register()
