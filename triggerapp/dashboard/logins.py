"""Logins are tried slowly: after many wrong passwords for a user an address waits, before any password is looked at.

Not for any other user: behind a proxy all have one address, and the mistake of one is not to lock out the others.
Django's own authentication backend, with a guard before it; for `AUTHENTICATION_BACKENDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest

from triggerapp.engine import guard

log = logging.getLogger(__name__)


class SlowGuesses(ModelBackend):
    """Users with passwords; refuses whoever has to wait."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser | None:  # type: ignore[override]  # its own names two of them
        """The user; raises `PermissionDenied`, at which Django asks no other backend."""
        who = _who(request, credentials)
        if who and guard.logins.wait(who, ""):
            log.warning("logins are refused for a while after too many wrong passwords: %r", who)
            raise PermissionDenied
        return super().authenticate(request, **credentials)


@receiver(user_login_failed)
def _count(sender: object, *, credentials: Mapping[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    who = _who(request, credentials)
    if who:
        guard.logins.wrong(who)


def _who(request: HttpRequest | None, credentials: Mapping[str, Any]) -> str:
    """Address and user name; a name is tried in any case of its letters, and may have any length."""
    address = "" if request is None else str(request.META.get("REMOTE_ADDR", ""))
    name = str(credentials.get("username") or credentials.get(get_user_model().USERNAME_FIELD) or "")
    return f"{address} {name.lower()[:150]}" if address else ""
