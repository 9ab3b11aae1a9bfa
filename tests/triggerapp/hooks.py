"""Endpoints of the tests, and what is posted to them: as providers do, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.client import client
from tests.triggerapp import signing
from tests.triggerapp.signing import STANDARD, TEXT, Sent
from triggerapp.engine import webhooks
from triggerapp.models import Endpoint, Event

SIGN = {
    "standard": signing.standard,
    "stripe": signing.stripe,
    "github": signing.github,
    "slack": signing.slack,
    "generic": signing.generic,
}
PRESETS = pytest.mark.parametrize("preset", SIGN)


def endpoint(preset: str = "standard", name: str = "hook", **options: Any) -> Endpoint:
    secret = STANDARD if preset == "standard" else TEXT
    return webhooks.create("dev", name, preset=preset, secret=options.pop("secret", secret), **options).endpoint


def post(sent: Sent, *, to: str = "hook", kind: str = "application/json") -> tuple[int, Any]:
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.headers.items()}
    answer = client().generic("POST", f"/hooks/{to}", sent.body, content_type=kind, **headers)
    return answer.status_code, json.loads(answer.content)


def refused(sent: Sent, code: str, status: int = 401, **options: Any) -> str:
    found, answer = post(sent, **options)
    assert (found, answer["code"]) == (status, code), answer
    assert not Event.objects.exists()
    return str(answer["error"])
