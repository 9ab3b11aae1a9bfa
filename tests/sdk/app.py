"""The Celery app that the SDK's tests trigger: `celery -A tests.sdk.app worker`, and behind `tests.sdk.asgi`."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")

app = Celery("sdk", include=["tests.sdk.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
