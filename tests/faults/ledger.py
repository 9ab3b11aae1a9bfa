"""What step code did to the world: one line for each execution, appended to a file that no database rolls back."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

PATH = "FAULTS_LEDGER"
"""The environment variable that names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Step code ran: for which run and step, in which process, when."""

    run: str
    key: str
    pid: int
    at: float


def note(run: str, key: str) -> None:
    """Append a line, before the step does anything else."""
    line = json.dumps(asdict(Execution(run=run, key=key, pid=os.getpid(), at=time.time()))) + "\n"
    file = os.open(os.environ[PATH], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line.encode())  # one write: lines of other processes cannot come between
    finally:
        os.close(file)


def read(path: Path) -> list[Execution]:
    """All executions so far, in order."""
    return [Execution(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def lingering(path: Path) -> int:
    """How many times the step was begun that takes until it is let go."""
    return sum(each.key == "linger#1" for each in read(path))


def let_go(path: Path, number: int) -> Path:
    """The file for which that step waits when it is begun for the `number`th time."""
    return path.with_name(f"{path.name}.go{number}")
