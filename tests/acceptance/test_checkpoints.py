"""Waiting by checkpoint: the process is gone, and goes on at the next line with all that it held in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.tasks import holds
from triggerapp.models import Checkpoint, Run
from workers import events

Start = Callable[..., AbstractContextManager[Worker]]


@pytest.fixture
def here(worker: Start, tmp_path: Path) -> Callable[..., AbstractContextManager[Worker]]:
    def start(**env: str) -> AbstractContextManager[Worker]:
        return worker("prefork", ACCEPTANCE_CHECKPOINT="on", ACCEPTANCE_STORE=str(tmp_path / "store"), **env)

    return start


def waiting(result: Any) -> None:
    wait_until(lambda: Run.objects.get(task_id=result.id).status == "waiting")


def note_of(result: Any) -> str:
    return Run.objects.get(task_id=result.id).attempts.get().note


def test_what_a_function_holds_in_memory_survives_its_wait(here: Start):
    with here() as mine:
        result = holds.delay(tag := fresh())
        waiting(result)
        run = Run.objects.get(task_id=result.id)
        assert Checkpoint.objects.get(run=run).wait == run.waiting_on
        events.send("go", {"tag": tag, "value": "came"})
        assert result.get(timeout=30) == [0, 1, 2, 3, 4, "came", "closure", True], mine.text()
        assert notes(tag) == ["entered"]
        assert note_of(result) == ""
        wait_until(lambda: not Checkpoint.objects.filter(run=run).exists())
