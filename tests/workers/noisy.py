"""A project that prints more than a pipe holds as soon as it is loaded."""

from __future__ import annotations

import sys

from celery import Celery

app = Celery("noisy")
sys.stdout.write("a line of the project's own\n" * 20_000)
