"""The key of a helper: a file that root alone can read, the same on all hosts that restore each other's images.

It is read where a seal is made or checked, after the hand was forked, and never by the daemon: whatever a process has
in its memory, its forks have as well.
"""

from __future__ import annotations

import base64
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from checkpoint.errors import Unsupported
from checkpoint.helper.mac import KEY


def prepare(path: Path) -> None:
    """Have a key in this file, made if there is none. Unsupported if it is no key, or not root's alone."""
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        _try(path, ours)
    os.close(ours)
    with open(theirs, errors="replace") as file:
        problem = file.read()
    if os.waitpid(child, 0)[1]:
        raise Unsupported(problem or f"the key in {path} cannot be read: see above")


def load(path: Path) -> bytes:
    """The key in this file. Unsupported if there is none, or it is not root's alone."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
            found = os.fstat(file.fileno())
            raw = file.read(1024)
    except (OSError, ValueError) as problem:
        raise Unsupported(f"the key in {path} cannot be read: {problem}") from problem
    secret = _decoded(raw, path)
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o077:
        raise Unsupported(f"the key in {path} is not root's alone: chown root {path} && chmod 0600 {path}")
    return secret


def _try(path: Path, told: int) -> NoReturn:
    """In a process of its own, which says why it cannot be done."""
    status = 1
    try:
        _make(path)
        load(path)
        status = 0
    except Unsupported as problem:
        os.write(told, problem.message.encode())
    finally:
        os._exit(status)


def _make(path: Path) -> None:
    """Unless there is one."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _write(path)
    except OSError as problem:
        raise Unsupported(f"there is no key in {path}, and none can be made: {problem}") from problem


def _write(path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(base64.b64encode(os.urandom(KEY)) + b"\n")


def _decoded(raw: str, path: Path) -> bytes:
    with suppress(ValueError):
        key = base64.b64decode(raw.strip(), validate=True)
        if len(key) == KEY:
            return key
    raise Unsupported(
        f"{path} holds no key: {KEY} bytes in base64. Choose another file (--key), or delete it to have a new one made"
    )
