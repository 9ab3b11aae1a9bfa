"""A lane: one process with a database and broker databases of its own, in which scenarios are played in turn.

`Lane` is its remote control in the test process; several lanes play side by side and cannot see each other.
Run as a program it is the lane: it imports everything once, and forks workers and clients from there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests.faults import database

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 600
"""Seconds after which a scenario has hung: it ends, and says where."""


class Lane:
    """The remote control of a lane."""

    def __init__(
        self, name: str, number: int, *, database_url: str, broker_url: str, folder: Path, env: dict[str, str]
    ) -> None:
        self.folder = folder
        self.helps: dict[str, Callable[[], object]] = {}
        """What a scenario may ask of the test process, such as to stop a server."""
        self.database_url = database.named(database_url, name)
        parts = urlsplit(broker_url)
        env = {
            "DATABASE_URL": self.database_url,
            "CELERY_BROKER_URL": urlunsplit(parts._replace(path=f"/{2 * number}")),
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "FAULTS_FOLDER": str(folder),
            "DJANGO_SECRET_KEY": "faults",
            "CELERY_SKIP_CHECKS": "true",
            **env,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.lane"],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def play(self, scenario: str, /, **arguments: Any) -> Any:
        """The result of `module:function` of this folder, called with a `World` in the lane's process."""
        answer = self._exchange([scenario, arguments])
        while "ask" in answer:
            self.helps[answer["ask"]]()
            answer = self._exchange("done")
        if "error" in answer:
            raise AssertionError(f"{scenario} {arguments}: {answer['error']}")
        return answer["result"]

    def _exchange(self, message: object) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline() or '{"error": "the lane died"}'))

    def close(self) -> None:
        """End the lane and all its processes."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def main() -> None:
    """Play what the remote control asks for, until it closes."""
    import django

    django.setup()
    from tests.faults import processes
    from tests.faults.world import World

    processes.end_with_parent()
    World.warm_up()
    processes.adopt_orphans()
    answers = os.fdopen(os.dup(1), "w", buffering=1)

    def ask(what: str) -> None:
        answers.write(json.dumps({"ask": what}) + "\n")
        sys.stdin.readline()

    signal.signal(signal.SIGALRM, _give_up)
    while line := sys.stdin.readline():
        answers.write(json.dumps(_play(*json.loads(line), ask), default=str) + "\n")


def _play(name: str, arguments: dict[str, Any], ask: Callable[[str], None]) -> dict[str, Any]:
    """What a scenario returns, or how it failed; nothing of it runs afterwards."""
    from tests.faults import processes
    from tests.faults.world import World

    module, _, function = name.partition(":")
    signal.alarm(_PATIENCE)
    try:
        scenario = getattr(import_module(f"tests.faults.{module}"), function)
        return {"result": scenario(World(Path(os.environ["FAULTS_FOLDER"]), ask), **arguments)}
    except Exception:
        return {"error": traceback.format_exc()}
    finally:
        processes.end_all()
        signal.alarm(0)


def _give_up(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"the scenario hung for {_PATIENCE} s here")


if __name__ == "__main__":
    main()
