"""A server, a worker, and the official SDK from npm in a folder of the session's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.site import live, npm

SDK = "4.8.3"
HERE = Path(__file__).parent


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
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="package")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK in it."""
    folder = tmp_path_factory.mktemp("node")
    npm(folder, {"@trigger.dev/sdk": SDK})
    for program in HERE.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


@pytest.fixture(scope="package")
def node(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server and a worker of this session, and a Node that knows the way to them."""
    # The last broker databases: all of this is one file's, so one process's.
    with live("sdk", 61, tasks="tests.sdk.tasks", folder=tmp_path_factory.mktemp("logs")) as site:
        key = site.manage("api_keys", "create", "--name", "sdk").strip()
        root = site.manage("api_keys", "create", "--name", "root", "--root").strip()
        site.manage("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@shop.example")
        token = site.manage("api_keys", "create", "--name", "laptop", "--user", "ada").strip()
        keys = {"TRIGGER_SECRET_KEY": key, "TRIGGER_ROOT_KEY": root, "PERSONAL_TOKEN": token}
        yield Node(folder=packages, environment={**os.environ, "TRIGGER_API_URL": site.url, **keys})
