"""The standalone project's ASGI entry point: `triggerapp.asgi:application`."""

from __future__ import annotations

import os
from importlib import import_module

from django.core.asgi import get_asgi_application
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")

application = get_asgi_application()

# Under ASGI each request has a thread of its own: a connection that outlives it would be left over, not used again.
connections.settings["default"]["CONN_MAX_AGE"] = 0

# The one name of `workers` in this package: what the project's web processes trigger goes to its broker.
import_module("workers.celery").app.set_default()
