"""Mounts and a network that nobody else sees: for this thread, and what it starts from now on. For root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import Final

_NEW_MOUNTS, _NEW_NETWORK = 0x00020000, 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


def leave_mounts() -> None:
    """What is mounted from now on is seen by this thread alone, and by what it starts."""
    _unshare(_NEW_MOUNTS)
    mount("--make-rprivate", "/")


def leave_network() -> None:
    """In the new network there is a loopback, which is down, and nothing else."""
    _unshare(_NEW_NETWORK)


def mount(*arguments: str) -> None:
    """CalledProcessError if it cannot be."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _unshare(what: int) -> None:
    if _libc.unshare(what) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
