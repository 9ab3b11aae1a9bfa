"""Where images lie while the helper works on them: folders that nobody but root and the hand at work can reach.

A folder is its user's, as CRIU writes it with his rights; the one above it is root's alone, so by path there is no way
in for him. The hand has it by descriptor, and so has what it starts.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from checkpoint import leftovers
from checkpoint.binary import Binary
from checkpoint.helper.peer import Peer

_DIES: Final = 5.0
_PAUSE: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One helper's folders, file of its key, and CRIU."""

    root: Path
    key_file: Path
    criu: Binary

    def make(self) -> None:
        """Root's alone; what an earlier helper left here is ended."""
        for folder in (self.root, self._images, self._memory):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """End and remove what sessions left that were killed: their hands die a moment after them."""
        deadline = time.monotonic() + _DIES
        while (left := list(self._abandoned())) and time.monotonic() < deadline:
            leftovers.end_abandoned(self._images, trusted=True)
            for folder in left:
                if not leftovers.is_recorded(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            time.sleep(_PAUSE)

    @contextmanager
    def folder(self, owner: Peer) -> Iterator[int]:
        """An empty one for this session, as a descriptor; it is gone after the block."""
        path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._images))
        try:
            with _opened(path, owner) as folder:
                yield folder
        finally:
            leftovers.end_abandoned(self._images, path.name, trusted=True)
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def memory(self, owner: Peer) -> Iterator[int]:
        """Where this user's CRIU keeps what it learned about the kernel: it believes what it finds there."""
        path = self._memory / str(owner.uid)
        path.mkdir(mode=0o700, exist_ok=True)
        with _opened(path, owner) as folder:
            yield folder

    def _abandoned(self) -> Iterator[Path]:
        for folder in self._images.iterdir():
            if not Path("/proc", folder.name.partition("-")[0]).exists():
                yield folder

    @property
    def _images(self) -> Path:
        return self.root / "images"

    @property
    def _memory(self) -> Path:
        return self.root / "memory"


@contextmanager
def _opened(path: Path, owner: Peer) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(folder, owner.uid, owner.gid)
        yield folder
    finally:
        os.close(folder)
