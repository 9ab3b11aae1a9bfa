"""A server, a worker, and the official SDK from npm in a folder of the session's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.acceptance.cluster import ROOT, Cluster, _prctl, wait_until

SDK = "4.8.3"
HERE = Path(__file__).parent
_INSTALLATION = 300.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.worker)


@dataclass(frozen=True)
class Node:
    """A Node program with the SDK, the server's address and a key."""

    folder: Path
    environment: dict[str, str]

    def run(self, scenario: str) -> None:
        """Run one scenario; its output is the failure's."""
        done = subprocess.run(
            ["node", "scenarios.mjs", scenario],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK in it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the SDK was not tried")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": {"@trigger.dev/sdk": SDK}}))
    shutil.copy(HERE / "scenarios.mjs", folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALLATION)
    if done.returncode:
        pytest.skip(f"npm could not install the SDK, which was not tried: {done.stderr[-300:]}")
    return folder


@pytest.fixture(scope="session")
def node(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server and a worker of this session, and a Node that knows the way to them."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "main")
    cluster = Cluster(
        f"sdk_{name}", 61, packages
    )  # the last broker databases: all of this is one file's, so one process's
    cluster.create()
    port = _free_port()
    environment = {
        **os.environ,
        **cluster.environment(),
        "DJANGO_SETTINGS_MODULE": "tests.sdk.settings",
        "SDK_TESTS_URL": f"http://127.0.0.1:{port}",
    }
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "--verbosity", "0"], cwd=ROOT, env=environment, check=True)
    made = subprocess.run(
        [*manage, "api_keys", "create", "--name", "sdk"], cwd=ROOT, env=environment, check=True, stdout=-1
    )
    server = ["uvicorn", "tests.sdk.asgi:application", "--port", str(port), "--lifespan", "off"]
    worker = "celery -A tests.sdk.app worker -P threads -c 4 -l INFO --without-mingle --without-gossip".split()
    folder = tmp_path_factory.mktemp("logs")
    with _running(server, environment, folder / "server.log"), _running(worker, environment, folder / "worker.log"):
        wait_until(lambda: _is_ready(port), reason=(folder / "server.log").read_text())
        wait_until(lambda: " ready." in (folder / "worker.log").read_text(), reason="the worker did not start")
        keys = {"TRIGGER_API_URL": f"http://127.0.0.1:{port}", "TRIGGER_SECRET_KEY": made.stdout.decode().strip()}
        yield Node(folder=packages, environment={**os.environ, **keys})
    cluster.drop()


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(_prctl, 1, int(signal.SIGKILL)),  # goes with the tests, however they end
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


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
