"""The one test client: the API's tests speak through it, and those of webhooks."""

from __future__ import annotations

from functools import cache

from django.test import Client


@cache
def client() -> Client:
    """One for all: loading the middleware, which looks at every static file, takes longer than most requests."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)
