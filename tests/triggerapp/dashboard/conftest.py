"""People in front of the dashboard, each with a level of access."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.test.client import ClientHandler

from triggerapp import clock

PEOPLE = ("anybody", "viewer", "operator", "administrator")
_PERMISSIONS = {"viewer": "view_dashboard", "operator": "operate_dashboard", "administrator": "administer_dashboard"}


@pytest.fixture(autouse=True)
def _the_time_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages know what the database's clock says: which of them asks for it, as one does each minute, is chance."""
    monkeypatch.setattr(clock, "_told", (datetime.now(UTC), time.monotonic()))
    monkeypatch.setattr(clock, "_ASKED_AGAIN", math.inf)


@cache
def _handler(enforce_csrf_checks: bool) -> ClientHandler:
    """One for all: loading the middleware, which looks at every static file, takes longer than most requests."""
    return ClientHandler(enforce_csrf_checks)


@pytest.fixture
def log_in(database: None) -> Iterator[Callable[..., Client]]:
    """A browser of somebody of that name; `nobody` is not logged in."""

    def log_in(name: str, **options: bool) -> Client:
        client = Client(**options)
        client.handler = _handler(client.handler.enforce_csrf_checks)
        if name != "nobody":
            user, _ = User.objects.get_or_create(username=name)
            if name in _PERMISSIONS:
                user.user_permissions.add(Permission.objects.get(codename=_PERMISSIONS[name]))
            client.force_login(user)
        return client

    yield log_in
    User.objects.all().delete()


@pytest.fixture
def viewer(log_in: Callable[..., Client]) -> Client:
    return log_in("viewer")


@pytest.fixture
def operator(log_in: Callable[..., Client]) -> Client:
    return log_in("operator")


@pytest.fixture
def administrator(log_in: Callable[..., Client]) -> Client:
    return log_in("administrator")
