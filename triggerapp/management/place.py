"""Where the project is, and with it the servers of its own."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings


def project() -> Path:
    """The folder of the project: its `BASE_DIR` setting, else where we are."""
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd())
