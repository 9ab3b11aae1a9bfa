"""A project that prints more than a pipe holds as soon as it is loaded."""

from __future__ import annotations

from celery import Celery

app = Celery("noisy")
print("a line of the project's own\n" * 20_000)
