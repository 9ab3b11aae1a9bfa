"""The standalone project's ASGI entry point: `triggerapp.asgi:application`."""

from __future__ import annotations

import os
from importlib import import_module

from django.core.asgi import get_asgi_application
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")

application = get_asgi_application()

# Under ASGI each request has a thread of its own. A connection that outlives it would be left over, and one that is
# opened for it costs more than all that is asked of it: they are lent by a pool, which looks whether they are still
# alive. Only here: a process that forks, as workers do, would share its pool with its children.
connections.close_all()
connections.settings["default"].update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=True)
connections.settings["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 20, "timeout": 10}

# The one name of `workers` in this package: what the project's web processes trigger goes to its broker.
app = import_module("workers.celery").app
app.conf.result_backend_thread_safe = True  # else each of those threads makes a result backend of its own
app.set_default()
