"""For Celery users without a Django project."""

from __future__ import annotations

import os


def setup() -> None:
    """Set Django up, with `triggerapp.settings` unless `DJANGO_SETTINGS_MODULE` says otherwise.

    Call it once where the Celery app is made. Configure with `DATABASE_URL` and `CELERY_BROKER_URL`.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")
    import django  # noqa: PLC0415  (only those who call this need it before their settings are known)

    django.setup()
