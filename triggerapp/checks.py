"""Django's system checks of this app."""

from __future__ import annotations


def register() -> None:
    """Connect the checks."""
