"""Logins are tried slowly: an address with many wrong passwords waits, before any password is looked at.

Django's own authentication backend, with a guard before it; for `AUTHENTICATION_BACKENDS`.
"""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest

from triggerapp.engine import guard

log = logging.getLogger(__name__)


class SlowGuesses(ModelBackend):
    """Users with passwords; refuses an address that has to wait."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser | None:  # type: ignore[override]  # its own names two of them
        """The user; raises `PermissionDenied`, at which Django asks no other backend."""
        address = _address(request)
        if address and guard.logins.wait(address, ""):
            log.warning("logins from %s are refused for a while: too many wrong passwords", address)
            raise PermissionDenied
        return super().authenticate(request, **credentials)


@receiver(user_login_failed)
def _count(sender: object, *, request: HttpRequest | None = None, **_: Any) -> None:
    address = _address(request)
    if address:
        guard.logins.wrong(address)


def _address(request: HttpRequest | None) -> str:
    return "" if request is None else str(request.META.get("REMOTE_ADDR", ""))
