"""The standalone project's Celery app: `celery -A workers worker`.

A host project keeps its own app; nothing here is needed there.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")

app = Celery("triggerapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
