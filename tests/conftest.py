"""What every test stands on: real servers of the session's own, ended with it.

They are started while this file is imported, before anything reads the Django settings; test modules and other
conftests may therefore import models at their top. `DATABASE_URL` and `CELERY_BROKER_URL`, if set, are used instead.
"""

from __future__ import annotations

import os

from tests import servers

os.environ["DJANGO_SETTINGS_MODULE"] = "triggerapp.settings"
servers.provide()

import django  # noqa: E402  the settings read the addresses set above

django.setup()


def pytest_unconfigure() -> None:
    """Stop what this process started; parallel test processes started nothing."""
    servers.remove()
