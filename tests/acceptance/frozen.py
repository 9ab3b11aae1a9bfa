"""What tests of waiting by checkpoint ask of workers, runs and images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import psutil

from checkpoint import use
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.runs import run_of, status
from triggerapp.models import Checkpoint
from workers import events

Start = Callable[..., AbstractContextManager[Worker]]

HELD = [0, 1, 2, 3, 4, "came", "closure", True]
"""What the task `holds` returns."""


def left(queue: str) -> list[psutil.Process]:
    """Zygotes and run processes of workers of this queue, whoever is their parent by now."""
    return [process for process in psutil.process_iter() if is_left(process, queue)]


def is_left(process: psutil.Process, queue: str) -> bool:
    with suppress(psutil.Error):
        return "workers.zygote" in process.cmdline() and process.environ().get("ACCEPTANCE_QUEUE") == queue
    return False


def waiting(result: Any) -> Checkpoint:
    """The run's checkpoint, once it waits; its process is gone then or very soon."""
    wait_until(lambda: status(result) == "waiting")
    return Checkpoint.objects.get(run__task_id=result.id)


def go(tag: str) -> None:
    events.send("go", {"tag": tag, "value": "came"})


def note_of(result: Any) -> str:
    return run_of(result).attempts.get().note


def stored(mine: Worker, found: Checkpoint) -> Path:
    (path,) = Path(mine.log.parent / "store").rglob(f"{found.id}*")
    return path


def base_of(mine: Worker) -> Path:
    """Where the memory is unpacked that this worker's images leave out, once the worker holds it."""
    (zygote,) = (child for child in psutil.Process(mine.pid).children() if "workers.zygote" in child.cmdline())
    (*_, home, _) = zygote.cmdline()
    made = Path(home) / f"base-{zygote.pid}"
    wait_until(made.exists)
    path = Path(home) / "images" / "bases" / f"{made.read_text()}.base"
    wait_until(lambda: use.is_held(path))
    return path
