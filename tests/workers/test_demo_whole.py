"""The whole demo, as `make demo` plays it: its exit status is its verdict, and the verdict can be no."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workers.demo.story import PURCHASES

pytestmark = [pytest.mark.slow, pytest.mark.worker]

ROOT = Path(__file__).resolve().parents[2]
ENTRY = re.compile(r" s +(tkt_\d) +(\S+) +(?:worker \d|payments|mail|a saboteur) ")
"""A line of the ledger, as it is printed."""

SABOTAGED = """
import sys
from workers.demo import __main__ as demo, play

def observe(stage, look=play.observe):
    first = stage.ledger.entries()[0]
    stage.ledger.append(first.who, first.what, key=first.key, by="a saboteur")
    return look(stage)

play.observe = observe
sys.exit(demo.main())
"""


def played(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo, in a process that is told of no servers."""
    told = ("DATABASE_URL", "CELERY_", "DJANGO_", "PYTEST_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False, timeout=180)


def test_the_demo_ends_as_it_must() -> None:
    done = played("-m", "workers.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill -9 of worker") == 1
    assert sorted(ENTRY.findall(done.stdout)) == sorted((one.ticket, what) for one in PURCHASES for what in one.lines)


def test_the_demo_says_no_where_a_line_of_the_ledger_is_there_twice() -> None:
    done = played("-c", SABOTAGED)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.findall(r"^ +NO +(.+\S)", done.stdout, re.MULTILINE)[0].startswith("every ledger line")
    assert len(ENTRY.findall(done.stdout)) == 1 + sum(len(one.lines) for one in PURCHASES)
