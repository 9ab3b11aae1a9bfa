"""Files that stay for as long as somebody uses them: a user holds a shared lock, who deletes needs it alone.

The kernel takes the lock of a process that dies, so nothing is held for ever.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO


def hold(file: IO[bytes]) -> None:
    """Keep the file from being deleted for as long as it is open. FileNotFoundError if it just was."""
    fcntl.flock(file.fileno(), fcntl.LOCK_SH)
    if not os.fstat(file.fileno()).st_nlink:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file.name)


def is_held(path: Path) -> bool:
    """Whether anybody uses it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return not _is_free(file)
    return False


def discard(path: Path) -> None:
    """Delete it unless somebody uses it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if _is_free(file) and os.fstat(file.fileno()).st_nlink:  # else its name is another file's by now
            path.unlink()


def _is_free(file: IO[bytes]) -> bool:
    """Whether nobody holds it; who wants to waits until this file is closed."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
