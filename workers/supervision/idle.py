"""Processes whose run never waited and registered nothing: each serves another one, as a pool process does.

One that could not be dumped is not among them: what was in the way may be there still, and would be in the next run's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from checkpoint import Sandbox

_idle: list[Sandbox] = []


def take() -> Sandbox | None:
    """One of them; None if there is none."""
    with suppress(IndexError):
        return _idle.pop()
    return None


def put(process: Sandbox, *, limit: int | None) -> None:
    """Keep it for another run, unless it has grown over `worker_max_memory_per_child`, in KiB."""
    if _is_too_large(process.pid, limit):
        process.release()
    else:
        _idle.append(process)


def _is_too_large(pid: int, limit: int | None) -> bool:
    if not limit:
        return False
    with suppress(OSError):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE") > limit * 1024
    return True
