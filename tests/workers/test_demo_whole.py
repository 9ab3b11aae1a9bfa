"""The whole demo, as `make demo` plays it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import checkpoint
from workers.demo import hosts
from workers.demo.story import PURCHASES

pytestmark = [pytest.mark.slow, pytest.mark.worker]

ROOT = Path(__file__).resolve().parents[2]
IMAGES = [
    "while they waited no run had a process",
    "the second worker restored what the first one left",
    "a generator went on in the middle of its loop",
]
"""What only a demo asks whose runs wait as images."""
ENTRY = re.compile(r" s +(tkt_\d) +(\S+) +(?:worker \d|payments|mail) ")
"""A line of the ledger, as it is printed."""


def test_the_demo_ends_as_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the question below, asked in another directory
    told = ("DATABASE_URL", "CELERY_", "DJANGO_", "PYTEST_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    command = [sys.executable, "-m", "workers.demo"]
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill -9 of worker") == 1
    assert ("entered again from their journal" in done.stdout) is not checkpoint.check().ok
    assert [question in done.stdout for question in IMAGES] == [checkpoint.check().ok] * len(IMAGES)
    assert bool(re.search("yes +the second worker stood in another", done.stdout)) is (
        hosts.why_not_elsewhere(tmp_path) == ""
    )
    assert sorted(ENTRY.findall(done.stdout)) == sorted((one.ticket, what) for one in PURCHASES for what in one.lines)
