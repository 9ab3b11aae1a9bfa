"""The standalone project's addresses: what cannot be meant is told in one line, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOUND = {"DATABASE_URL": "postgres://somebody@127.0.0.1:1/demo", "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}


def told(**given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "checkpoints", "list"]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | SOUND | given, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("url", ["nonsense", "postgres://localhost:notaport/x", "mysql://somebody@localhost/x"])
def test_what_is_no_database(url):
    done = told(DATABASE_URL=url)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "manage.py: DATABASE_URL is no PostgreSQL's: write postgres://USER:PASSWORD@HOST:PORT/NAME\n"
    )


@pytest.mark.parametrize("url", ["foo://x", "redis://127.0.0.1:xyz", "redis://127.0.0.1/xyz", "amqp://a;nonsense"])
def test_what_is_no_broker(url):
    done = told(CELERY_BROKER_URL=url)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("manage.py: CELERY_BROKER_URL is no broker's: write redis://")


@pytest.mark.parametrize(
    "url", ["redis+socket:///run/redis?virtual_host=1", "amqp://a:5672//;amqp://b", "sentinel://a:26379;sentinel://b"]
)
def test_what_may_be_one_is_not_refused(url):
    assert "CELERY_BROKER_URL" not in told(CELERY_BROKER_URL=url).stderr
