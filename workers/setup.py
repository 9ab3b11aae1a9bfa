"""For Celery users without a Django project."""

from __future__ import annotations

import os


def setup() -> None:
    """Set Django up, with `triggerapp.settings` unless `DJANGO_SETTINGS_MODULE` says otherwise.

    Call it once where the Celery app is made. Configure with `DATABASE_URL` and `CELERY_BROKER_URL`. Raises Django's
    `ImproperlyConfigured` if there is no database.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")
    import django  # noqa: PLC0415  (only those who call this need it before their settings are known)
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    django.setup()
    if connection.settings_dict["ENGINE"] == "django.db.backends.dummy":
        raise ImproperlyConfigured(
            "durable tasks need a database: set DATABASE_URL to a PostgreSQL's. For development `manage.py services "
            "start` starts one (without a manage.py: `python -m django services start --settings triggerapp.settings`)"
        )
