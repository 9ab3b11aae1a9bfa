"""Browsers of other origins: none by default; those that the settings name may send and see what the SDK does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from triggerapp.api import cors

ROOT = Path(__file__).resolve().parents[2]
_ASK = """
import django, json
from django.test import Client
django.setup()
ask = Client(SERVER_NAME="127.0.0.1").options(
    "/api/v1/runs", HTTP_ORIGIN={origin!r}, HTTP_ACCESS_CONTROL_REQUEST_METHOD="POST",
    HTTP_ACCESS_CONTROL_REQUEST_HEADERS="authorization,x-trigger-api-version")
print(json.dumps([ask.status_code, dict(ask.headers)]))
"""


def preflight(origins: str, origin: str) -> tuple[int, dict[str, str]]:
    """What a server with these settings says; settings are read once, so it is a process of its own."""
    environment = {**os.environ, "TRIGGERAPP_CORS_ORIGINS": origins, "DJANGO_SETTINGS_MODULE": "triggerapp.settings"}
    command = [sys.executable, "-c", _ASK.format(origin=origin)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    status, headers = json.loads(done.stdout.splitlines()[-1])
    return status, {name.lower(): value for name, value in headers.items()}


@pytest.mark.slow
def test_no_other_origin_is_let_in_by_default():
    status, headers = preflight("", "https://shop.example")
    assert status == 401
    assert "access-control-allow-origin" not in headers


@pytest.mark.slow
def test_a_named_origin_may_send_what_the_sdk_sends():
    status, headers = preflight("https://shop.example", "https://shop.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://shop.example")
    assert set(cors.ALLOW_HEADERS) <= set(headers["access-control-allow-headers"].split(", "))
    assert "access-control-allow-credentials" not in headers
    _, headers = preflight("https://shop.example", "https://evil.example")
    assert "access-control-allow-origin" not in headers
