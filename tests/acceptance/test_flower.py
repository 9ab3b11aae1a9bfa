"""Flower beside a worker: a run that waited and went on reads as one task, whose state is right at each moment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.acceptance.cluster import Cluster, Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.tasks import plain_add
from tests.acceptance.trouble import gated_after_wait
from tests.live.site import free_port, running
from triggerapp import flowerconfig
from workers import events

pytestmark = pytest.mark.slow
Ask = Callable[[str], str]


@pytest.fixture(scope="module")
def flower(cluster: Cluster) -> Iterator[Ask]:
    """A Flower that has heard of nothing yet, asked by path."""
    port = free_port()
    command = ["celery", "-A", "tests.acceptance.app", "flower", "--address=127.0.0.1", f"--port={port}"]
    command.append(f"--conf={Path(flowerconfig.__file__)}")
    environment = {**os.environ, **cluster.environment(), "FLOWER_UNAUTHENTICATED_API": "1"}

    def ask(path: str) -> str:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
                return str(answer.read().decode())
        except (URLError, OSError):
            return ""

    with running(command, environment, cluster.folder / "flower.log"):
        wait_until(lambda: ask("/healthcheck"), reason="Flower did not start")
        yield ask


def tasks(flower: Ask, task_id: str) -> list[dict[str, Any]]:
    """What `/api/tasks` has under this id."""
    found = json.loads(flower("/api/tasks") or "{}")
    return [task for name, task in found.items() if task_id in (name, task["uuid"])]


def state(flower: Ask, task_id: str) -> str:
    found = tasks(flower, task_id)
    assert len(found) <= 1
    return str(found[0]["state"]) if found else ""


def hears(flower: Ask) -> bool:
    """Whether it listens: it answers before, and what was told until then it never hears of."""
    plain_add.delay(1, 1).get(timeout=120)
    return json.loads(flower("/api/tasks") or "{}") != {}


def test_a_run_that_waits_and_goes_on_is_one_task_in_flower(flower: Ask, threads: Worker):
    wait_until(lambda: hears(flower))
    result = gated_after_wait.delay(tag := fresh())
    wait_until(lambda: state(flower, result.id) == "WAITING", within=120)
    assert "suspended: event go" in tasks(flower, result.id)[0]["result"]
    page = flower(f"/task/{result.id}")
    assert "WAITING" in page
    assert f"/triggers/runs/?text={result.id}" in page
    events.send("go", {"tag": tag, "value": 1})
    wait_until(lambda: notes(tag) == ["resumed"], within=120)
    wait_until(lambda: state(flower, result.id) == "STARTED", within=120)
    open_gate(tag)
    assert result.get(timeout=120) == tag
    wait_until(lambda: state(flower, result.id) == "SUCCESS", within=120)
    (task,) = tasks(flower, result.id)
    assert task["result"] == f"'{tag}'"
    assert task["retries"] == 0
