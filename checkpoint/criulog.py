"""The end of CRIU's log, as it goes into an error.

The log is what tells the cause: the message in CRIU's answer is merely the first error, often a harmless one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_LINES: Final = 8
_READ: Final = 64 << 10
_TIME: Final = re.compile(r"^\(\d+\.\d+\)\s*")
_BAD_SIZE: Final = re.compile(r"File (.+) has bad size (\d+) \(expect (\d+)\)")
_NO_DIRECTORY: Final = re.compile(r"Can't open file (.+) on restore: No such file(?s:.*)Can't open cwd")
_HARMLESS: Final = ("Can't setup RLIMIT_NOFILE",)


def tail(path: Path, *, answer: str = "") -> tuple[str, ...]:
    """The last errors in the log; its last lines if it names none; CRIU's answer if there is no log."""
    lines = [line for line in _read(path) if not any(text in line for text in _HARMLESS)]
    errors = [line for line in lines if "Error" in line]
    return tuple((errors or lines or [answer] * bool(answer))[-_LINES:])


def explained(lines: Iterable[str]) -> str:
    """What one of them means, where CRIU leaves the remedy to be guessed; empty if none needs it."""
    text = "\n".join(lines)
    if found := _BAD_SIZE.search(text):
        path, now, then = found.groups()
        return f" (/{path} has {now} bytes, and had {then} at the wait: close it before the wait, or only append to it)"
    if found := _NO_DIRECTORY.search(text):
        return (
            f" (its process stood in /{found[1]}, which is not here: start workers in a directory that all hosts have)"
        )
    return ""


def _read(path: Path) -> list[str]:
    try:
        raw = path.read_bytes()[-_READ:]
    except OSError:
        return []
    return [_TIME.sub("", line).strip() for line in raw.decode(errors="replace").splitlines() if line.strip()]
