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
from tests.box import NOBODY


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


def group() -> str:
    """One of this host's, whichever it is."""
    return _groups()[0]


def another_group() -> str:
    """Not that one."""
    return _groups()[1]


def member() -> tuple[str, ...]:
    """The options of a box for somebody who has no rights, and is in that group."""
    return ("--user", str(NOBODY), "--group", group())


def with_capabilities(folder: Path) -> Path:
    """CRIU once more, in `folder`, with capabilities of its own for members of `group()`."""
    start = binary.find().path
    if binary.program_of(start) == start:
        leave(f"{start} was not brought by the installer, which gives capabilities to its own alone")
    prefix = folder / "criu"
    shutil.copytree(start.parent.parent, prefix, symlinks=True)
    assert command.main(["install", "--prefix", str(prefix), "--file-capabilities", group()]) == 0
    return binary.start_of(prefix)


def leave(reason: str) -> NoReturn:
    """This test cannot be run here."""
    (pytest.fail if os.environ.get("TRIGGERAPP_REQUIRE_CRIU") else pytest.skip)(reason)
    raise AssertionError


@cache
def _groups() -> list[str]:
    found = [entry.gr_name for entry in grp.getgrall() if 0 < entry.gr_gid < 1000]
    return found if len(found) > 1 else leave("this host has no two groups to give capabilities to")


@cache
def _verdict() -> checkpoint.Verdict:
    return checkpoint.check()
