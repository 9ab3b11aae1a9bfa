"""Tests that need CRIU, or root: they are skipped, with the reason, where it cannot be.

Where `TRIGGERAPP_REQUIRE_CRIU` is set, as in CI, they fail instead: a machine that should freeze processes does.
"""

from __future__ import annotations

import grp
import os
import shutil
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

import checkpoint
from checkpoint import __main__ as command
from checkpoint import binary

GROUP, ANOTHER = [group.gr_name for group in grp.getgrall() if 0 < group.gr_gid < 1000][:2]
"""Of this host, whichever they are."""


def require() -> None:
    """Processes can be frozen here."""
    if not _verdict().ok:
        leave(f"no CRIU: {_verdict().reasons[0].message}")


def require_root() -> None:
    """The tests may become somebody else, and make places that have less than they."""
    if os.geteuid() != 0:
        leave("only root can be somebody else")
    if shutil.which("setpriv") is None:
        leave("setpriv is not installed (on Debian: apt install util-linux)")


def with_capabilities(folder: Path) -> Path:
    """CRIU once more, in `folder`, with capabilities of its own for members of GROUP."""
    start = binary.find().path
    if binary.program_of(start) == start:
        leave(f"{start} was not brought by the installer, which gives capabilities to its own alone")
    prefix = folder / "criu"
    shutil.copytree(start.parent.parent, prefix, symlinks=True)
    assert command.main(["install", "--prefix", str(prefix), "--file-capabilities", GROUP]) == 0
    return binary.start_of(prefix)


def leave(reason: str) -> NoReturn:
    """This test cannot be run here."""
    (pytest.fail if os.environ.get("TRIGGERAPP_REQUIRE_CRIU") else pytest.skip)(reason)
    raise AssertionError


@cache
def _verdict() -> checkpoint.Verdict:
    return checkpoint.check()
