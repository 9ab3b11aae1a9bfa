"""Fixtures of the API's tests: a client with a key, as a program elsewhere has one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache as throttles

from tests.api.client import client
from tests.api.production import Place, furnish
from triggerapp.engine import environments, guard, keys


@dataclass
class Answer:
    """A status, a body and headers."""

    status: int
    body: Any
    headers: Any


class Api:
    """Speaks to the API as the SDK does."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def call(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str) -> Answer:
        sent = {"HTTP_AUTHORIZATION": f"Bearer {self.text}"} if self.text is not None else {}
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        kind = headers.pop("content_type", "application/json")
        answer = client().generic(method, path, data, content_type=kind, **sent, **headers)
        return Answer(answer.status_code, json.loads(answer.content) if answer.content else None, answer.headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **rest: Any) -> Answer:
        return self.call("POST", path, body, **rest)

    def put(self, path: str, body: Any = None) -> Answer:
        return self.call("PUT", path, body)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)


@pytest.fixture(autouse=True)
def no_counts() -> None:
    """The throttles begin anew."""
    throttles.clear()
    guard.keys.forget()
    environments.by_slug.forget()


def personal(permission: str, **changes: Any) -> keys.Issued:
    """A personal token of a new user, who has this permission of the dashboard's and these fields."""
    user = User.objects.create(username=f"{permission} {uuid4().hex[:6]}", **changes)
    user.user_permissions.add(Permission.objects.get(codename=f"{permission}_dashboard"))
    return keys.create_personal(str(user.pk), "laptop", ttl=timedelta(days=1))


@pytest.fixture
def key_for() -> Callable[..., Api]:
    """A client with a new key."""

    def make(*scopes: str, environment: str = "dev", **options: Any) -> Api:
        return Api(keys.create(environment, "tests", scopes=scopes or ("admin",), **options).text)

    return make


@pytest.fixture
def api(key_for: Callable[..., Api]) -> Api:
    """A client that may do everything in the tests' environment."""
    return key_for()


@pytest.fixture
def place() -> Place:
    """Production, with a row of each kind."""
    return furnish()
