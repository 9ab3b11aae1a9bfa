"""Where somebody is sent who has to log in: the project's page, or Django admin's where the project has none.

Without a `LOGIN_URL` of the project's own Django says `/accounts/login/`, which most projects do not serve.
"""

from __future__ import annotations

from typing import Final

from django.conf import global_settings, settings
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve

ADMIN: Final = "admin:login"


def address() -> str | None:
    """The page's address; None if nobody can log in."""
    return next(filter(None, map(_served, (settings.LOGIN_URL, ADMIN))), None)


def _served(place: str) -> str | None:
    try:
        found = resolve_url(place)
        if place == global_settings.LOGIN_URL:  # another path may be served in front of Django, by a proxy
            resolve(found)
    except (NoReverseMatch, Resolver404):
        return None
    return found
