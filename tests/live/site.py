"""A live site for tests that come from outside: a server and a worker of their own, and what they need from npm.

Both go with the tests, however these end. One test process has one site of a kind: its broker databases are fixed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.acceptance.cluster import ROOT, Cluster, _prctl, wait_until

_INSTALLATION = 900.0
_START = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where it is, and what a process needs to belong to it."""

    url: str
    cluster: Cluster
    environment: dict[str, str]

    def manage(self, *arguments: str) -> str:
        """What a management command prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            stdout=-1,
            text=True,
            timeout=300,
        )
        return done.stdout


@contextmanager
def live(name: str, number: int, *, tasks: str, folder: Path, queues: str = "celery", **more: str) -> Iterator[Site]:
    """A server and a worker for the tasks of this module, with broker databases from `number` on."""
    cluster = Cluster(f"{name}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", number, folder)
    cluster.create()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {"DJANGO_SETTINGS_MODULE": "tests.live.settings", "LIVE_URL": url, "LIVE_TASKS": tasks, **more}
    site = Site(url=url, cluster=cluster, environment={**os.environ, **cluster.environment(), **own})
    site.manage("migrate", "--verbosity", "0")
    server = ["uvicorn", "tests.live.asgi:application", "--port", str(port), "--lifespan", "off"]
    worker = "celery -A tests.live.app worker -P threads -c 4 -l INFO --without-mingle --without-gossip -Q".split()
    logs = folder / "server.log", folder / "worker.log"
    with running(server, site.environment, logs[0]), running([*worker, queues], site.environment, logs[1]):
        wait_until(lambda: answers(f"{url}/api/v1/ready"), within=_START, reason=logs[0].read_text())
        wait_until(lambda: " ready." in logs[1].read_text(), within=_START, reason="the worker did not start")
        yield site
    cluster.drop()


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """A Python module as a program, for as long as it lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(_prctl, 1, int(signal.SIGKILL)),
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives to nobody until it is used: those are above."""
    while True:
        port = 12_000 + secrets.randbelow(20_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def answers(url: str) -> bool:
    """Whether a server says 200."""
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def npm(folder: Path, packages: dict[str, str]) -> None:
    """Install packages from the registry; skips the tests where that cannot be."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: {', '.join(packages)} could not be tried")
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": packages}))
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALLATION)
    if done.returncode:
        pytest.skip(f"npm could not install {', '.join(packages)}: {done.stderr[-300:]}")
