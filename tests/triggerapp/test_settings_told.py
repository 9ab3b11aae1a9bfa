"""The standalone project's addresses: what cannot be meant is told in one line, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOUND = {"DATABASE_URL": "postgres://somebody@127.0.0.1:1/demo", "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}


def told(**given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "checkpoints", "list"]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | SOUND | given, capture_output=True, text=True, check=False
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("url", ["nonsense", "postgres://localhost:notaport/x", "postgres://u:se/cret@localhost/x"])
def test_what_is_no_database(url):
    said = last_line(told(DATABASE_URL=url))
    assert said.startswith("manage.py: DATABASE_URL is not an address: write postgres://USER:PASSWORD@HOST:PORT/NAME")
    assert "cret" not in said


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("foo://x", "there is no transport foo"),
        ("redis://127.0.0.1:xyz", "is not a number"),
        ("redis://127.0.0.1/xyz", "is not a number"),
        ("redis://:se/cret@127.0.0.1/0", "is not a number"),
        ("redis+socket:///run/redis?virtual_host=abc", "is not a number"),
        ("amqp://a;nonsense://b", "there is no transport nonsense"),
    ],
)
def test_what_is_no_broker(url, why):
    said = last_line(told(CELERY_BROKER_URL=url))
    assert said.startswith("manage.py: CELERY_BROKER_URL: ") and why in said and "cret" not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis+socket:///run/redis?virtual_host=1",
        "redis://a/0;redis://b/0",
        "amqp://a:5672//;amqp://b",
        "mongodb://a:27017,b:27017/x",
        "azureservicebus://policy:ab/c=@ns",
        "localhost",
    ],
)
def test_what_kombu_understands_is_not_refused(url):
    assert "the database 'demo' at 127.0.0.1:1 did not answer" in last_line(told(CELERY_BROKER_URL=url))
