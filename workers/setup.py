"""For Celery users without a Django project."""

from __future__ import annotations

import os


def require_setup() -> None:
    """Raise Django's `ImproperlyConfigured` in a program in which nobody has set Django up."""
    from django.apps import apps  # noqa: PLC0415  (as below)

    if not apps.ready:
        from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415

        raise ImproperlyConfigured(
            "durable tasks need Django: call workers.setup() once where the Celery app is made, or django.setup() in a "
            "script of a Django project"
        )


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
