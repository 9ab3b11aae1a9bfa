"""What can go wrong with the project-local servers."""

from __future__ import annotations


class ServicesError(RuntimeError):
    """A server could not be started, reached or stopped; the message says what to do."""
