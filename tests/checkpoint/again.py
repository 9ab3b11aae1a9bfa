"""Tests of root's that are run once more by somebody with fewer rights.

`CHECKPOINT_AGAIN=all` takes every cycle, altered image and row of the table in each way; it takes a quarter of an hour.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.box import ROOT

_FEW: Final = ("test_cycles.py",)
_ALL: Final = (
    *_FEW,
    "test_mutations.py",
    "test_held_connections.py",
    "test_held_files.py",
    "test_held_in_the_kernel.py",
    "test_held_processes.py",
)
_SERVERS: Final = ("DATABASE_URL", "CELERY_BROKER_URL")
"""Root's are not reached from everywhere: a row that needs them has its own."""


def passes(prefix: Sequence[str], folder: Path, env: Mapping[str, str]) -> str:
    """Run them after what `prefix` puts before a command, at home in a folder; what they print. AssertionError."""
    left = ("PYTEST_", *_SERVERS) if _is_all() else "PYTEST_"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    own = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "TMPDIR": str(folder), "DJANGO_SECRET_KEY": "of no account"}
    with (folder / "output").open("w+") as output:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_chosen()],
            env={**inherited, **own, **env},
            cwd=ROOT,
            stdout=output,
            stderr=output,
            check=False,
        )
    said = (folder / "output").read_text()
    assert done.returncode == 0, said[-8000:]
    return said


def _chosen() -> list[str]:
    files = [str(Path(__file__).with_name(name)) for name in (_ALL if _is_all() else _FEW)]
    return ["-m", "criu" if _is_all() else "criu and not slow", *files]


def _is_all() -> bool:
    return os.environ.get("CHECKPOINT_AGAIN") == "all"
