"""The Celery app of a live site, with the tasks of the tests that it is for: `celery -A tests.live.app worker`."""

from __future__ import annotations

import os

from celery import Celery

from tests import pauses

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")
pauses.install()

app = Celery("live", include=[os.environ["LIVE_TASKS"]])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()
