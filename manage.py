#!/usr/bin/env python
"""Django's entry point: `python manage.py help` lists the commands."""

import os
import sys
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")
    # What is triggered here goes to the project's broker. A system check names a foreign `workers` in front of ours.
    with suppress(ImportError):
        from workers.celery import app

        app.set_default()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"manage.py: {error}")
