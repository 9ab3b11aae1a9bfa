"""The proof: a small process of our own is dumped, killed, restored, and asked whether it still knows what it knew."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from checkpoint import leftovers, pids, processes
from checkpoint.driver import Driver
from checkpoint.errors import CheckpointError, RestoreFailed

PATIENCE: Final = timedelta(seconds=60)
"""A worker that starts while its machine is busy, as at boot, would else go without checkpoints all its life."""

_PROGRAM: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # die with the parent: this process is stopped for a while
line = int(sys.argv[1])
numbers = (n * n for n in range(7))
sum_before = sum(next(numbers) for _ in range(3))
os.write(line, b"ready")
os.read(line, 1)
os.write(line, b"%d" % (sum_before + sum(numbers)))
"""
_FOLDER: Final = "checkpoint-selftest-"
_ANSWER: Final = b"91"


def run(criu: Driver, *, timeout: timedelta = PATIENCE) -> None:
    """Raises CheckpointError if it does not work here; nothing is left behind either way."""
    leftovers.end_abandoned(Path(tempfile.gettempdir()), f"{_FOLDER}*")
    pids.leap()
    ours, theirs = socket.socketpair()
    inode = os.fstat(theirs.fileno()).st_ino
    with ours, tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
        ours.settimeout(timeout.total_seconds())
        with theirs:
            child = _start(theirs)
        try:
            if ours.recv(16) != b"ready":
                raise CheckpointError("the process of the self-test did not start")
            criu.dump(child.pid, Path(folder), external=[inode], timeout=timeout)
        finally:
            processes.end(lambda: processes.family([child.pid]))
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
        _restore(criu, Path(folder), inode, timeout=timeout)


def _start(line: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, str(line.fileno())],
        pass_fds=[line.fileno()],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


def _restore(criu: Driver, folder: Path, inode: int, *, timeout: timedelta) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(timeout.total_seconds())
        with theirs:
            pid = criu.restore(folder, inherit={f"socket:[{inode}]": theirs.fileno()}, timeout=timeout)
        try:
            ours.send(b"!")
            answer = ours.recv(16)
        except OSError as problem:
            raise RestoreFailed(f"the restored process of the self-test did not answer: {problem}") from problem
        finally:
            processes.end(lambda: processes.family([pid]))
        if answer != _ANSWER:
            raise RestoreFailed(f"the restored process of the self-test answered {answer!r} instead of {_ANSWER!r}")
