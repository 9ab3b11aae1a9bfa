"""Fixtures for the tests of `checkpoint`."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import checkpoint
from checkpoint import base, processes
from checkpoint.archive import Archive
from checkpoint.criu import Criu
from checkpoint.helper.client import Helper
from checkpoint.line import Line
from checkpoint.sandbox import Sandbox
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore
from tests import criu as needs
from tests.checkpoint.asking import Daemon
from tests.checkpoint.freezing import SOON, Freezer
from tests.checkpoint.holding import Held

_PR_SET_CHILD_SUBREAPER: Final = 36


@pytest.fixture(autouse=True)
def _needs_criu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("criu"):
        needs.require()


@pytest.fixture(autouse=True)
def _no_image_left(tmp_path: Path) -> Iterator[None]:
    """A process forked from the tests has all their memory: its image is of hundreds of megabytes.

    That includes what they have mapped: a base whose file is gone is too large for CRIU to keep.
    """
    yield
    base._open.cache_clear()
    shutil.rmtree(tmp_path)


@pytest.fixture
def criu() -> Criu:
    return checkpoint.driver()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    keyring = Keyring(current="one", keys={"one": b"1" * 32})
    return Archive(store=DirectoryStore(tmp_path / "store"), keyring=keyring, scratch=tmp_path / "scratch")


@pytest.fixture
def freezer(criu: Criu, archive: Archive) -> Freezer:
    return Freezer(criu=criu, archive=archive)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Callable[[Line], None]], Sandbox]]:
    """Starts run processes; what they print is in `output`. They are gone after the test."""
    started: list[Sandbox] = []

    def start(main: Callable[[Line], None]) -> Sandbox:
        started.append(checkpoint.start(main, output=tmp_path / "output"))
        return started[-1]

    yield start
    for sandbox in started:
        sandbox.end()


@pytest.fixture
def held(run: Callable[[Callable[[Line], None]], Sandbox], freezer: Freezer) -> Held:
    return Held(run, freezer)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Of a helper: a folder that every user may enter and write to."""
    needs.require_root()
    needs.require()
    made = Path(tempfile.mkdtemp())
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Daemon]:
    made = Daemon(place, needs.group())
    yield made
    made.stop()


@pytest.fixture
def helper(daemon: Daemon) -> Helper:
    return daemon.helper()


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """After the test this process has no children that it had not before; orphans among its descendants come to it.

    Servers that were running before may have new children of their own at any time.
    """
    _adopt_orphans(True)
    before = _children()
    yield
    deadline = time.monotonic() + SOON.total_seconds()
    while (left := _alive(_children() - before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    _adopt_orphans(False)
    assert not left


def _alive(pids: set[int]) -> list[processes.Task]:
    return [task for task in processes.family(pids) if task.alive()]


def _children() -> set[int]:
    return {task.pid for task in processes.family([os.getpid()]) if task.parent == os.getpid()}


def _adopt_orphans(wanted: bool) -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0
