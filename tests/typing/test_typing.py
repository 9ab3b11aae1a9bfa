"""What a user's type checker sees of the public API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_mypy_in_strict_mode_sees_the_types_that_are_asserted_and_the_mistakes_that_are_marked(tmp_path):
    strictly = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    command = [sys.executable, "-m", "mypy", *strictly, str(HERE / "calls.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent.parent, check=False)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
