"""The supported range: the heart of the suite under each supported Python that is here, and under the oldest Celery.

Each in a virtual environment made from the lock. It takes minutes: `make versions` runs it, `make test` does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.versions import interpreters

pytestmark = [pytest.mark.versions, pytest.mark.slow, pytest.mark.worker]

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = """
tests/workers tests/triggerapp tests/checkpoint tests/acceptance/test_canvas.py tests/acceptance/test_retries.py
tests/acceptance/test_restarts.py tests/acceptance/test_checkpoints.py
""".split()
OLDEST = ("celery>=5.6,<5.7", "kombu>=5.6,<5.7")


@pytest.mark.parametrize("version", interpreters.SUPPORTED, ids=lambda version: ".".join(map(str, version)))
def test_each_supported_python(version: tuple[int, int], tmp_path: Path) -> None:
    found = interpreters.find(version)
    if found is None:
        pytest.skip("this Python is not here")
    if sys.version_info[:2] == version:
        pytest.skip("this is the Python that `make test` runs under")
    assert_suite_passes(make_environment(found, tmp_path))


def test_the_oldest_supported_celery(tmp_path: Path) -> None:
    python = make_environment(Path(sys.executable), tmp_path)
    install(python, *OLDEST)
    assert subprocess.check_output([python, "-m", "celery", "--version"], text=True).startswith("5.6.")
    assert_suite_passes(python)


def make_environment(interpreter: Path, folder: Path) -> Path:
    """The Python of a new virtual environment with all that the lock names."""
    subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install(python, "--requirement", str(ROOT / "requirements.lock"))
    return python


def install(python: Path, *what: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def assert_suite_passes(python: Path) -> None:
    """The servers of this test session serve it too."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", *CHOSEN]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**ours, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
