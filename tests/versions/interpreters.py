"""Which supported Pythons this machine has, besides the one that runs the tests: on PATH, or pyenv's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ((3, 11), (3, 12), (3, 13))

_ASK = "import ensurepip, sys, venv; print(*sys.version_info[:2])"


def find(version: tuple[int, int]) -> Path | None:
    """A Python of this version that can make virtual environments; None if there is none."""
    return next((path for path in _candidates(version) if _version(path) == version), None)


def _candidates(version: tuple[int, int]) -> Iterator[Path]:
    if sys.version_info[:2] == version:
        yield Path(sys.executable)
    name = ".".join(map(str, version))
    on_path = shutil.which(f"python{name}")
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{name}.*/bin/python"), reverse=True)


def _version(python: Path) -> tuple[int, int] | None:
    """What it says it is; a shim of a Python that is not there says nothing."""
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)
