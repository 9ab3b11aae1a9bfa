"""The server that `manage.py bench --only api` asks: the standalone project's, over the bench's database and queue."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")

from django.conf import settings

# What is measured comes from one key, as fast as it can. Counted it is all the same.
settings.TRIGGERAPP = getattr(settings, "TRIGGERAPP", {}) | {"API_RATE": "1000000/second"}

from triggerapp.asgi import application  # noqa: E402, F401  (the settings are read by now)
from workers.bench import tasks  # noqa: E402  (its database is named before Django opens one)

tasks.app.set_default()
