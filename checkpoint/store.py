"""The store: where sealed checkpoints are kept, on a disk or behind a network.

A checkpoint is written once, whole or not at all, and never altered. Names are made of uuids alone, so that none can
lead elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from uuid import UUID, uuid4

from checkpoint.errors import Exists, Missing, StoreFailed

SUFFIX: Final = ".checkpoint"

_PART: Final = ".part"
_SHARED: Final = ": an image made on another host is there only if the hosts share it (CHECKPOINT_STORE)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One checkpoint in a store."""

    id: UUID
    size: int
    written: datetime


class Store(Protocol):
    """What a directory and an object store have in common. Both fail with StoreFailed, and leave nothing half there."""

    def put(self, id: UUID, fill: Callable[[BinaryIO], None]) -> Stored:
        """Store what `fill` writes. Exists if there is one of this id."""

    def get(self, id: UUID) -> BinaryIO:
        """The stored stream, opened. Missing if there is none."""

    def look(self, id: UUID) -> Stored:
        """What is there of this id. Missing if nothing is."""

    def delete(self, id: UUID) -> bool:
        """Delete it; False if it was not there."""

    def list(self) -> Iterator[Stored]:
        """All that is stored, in no order."""

    def sweep(self, *, older_than: timedelta) -> int:
        """Delete what writers that died left half written; how many."""

    def beside(self, name: str) -> Store:
        """Another store at the same place, under this name."""


class DirectoryStore:
    """Checkpoints as files of one directory, often a shared one."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put(self, id: UUID, fill: Callable[[BinaryIO], None]) -> Stored:
        """Store what `fill` writes. Exists if there is one of this id; StoreFailed leaves nothing."""
        part = self._root / f"{uuid4()}{_PART}"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(part, flags, 0o600), "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, self._path(id))  # rename would replace what is there
            part.unlink()
            self._sync()
            return self.look(id)
        except FileExistsError as problem:
            raise Exists(f"checkpoint {id} is stored already, and is never written again") from problem
        except OSError as problem:
            raise StoreFailed(f"checkpoint {id} could not be stored in {self._root}: {problem.strerror}") from problem
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def get(self, id: UUID) -> BinaryIO:
        """The stored stream, opened. Missing if there is none."""
        try:
            descriptor = os.open(self._path(id), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as problem:
            raise Missing(f"checkpoint {id} is not in {self._root}{_SHARED}") from problem
        except OSError as problem:
            raise StoreFailed(f"checkpoint {id} cannot be read: {problem.strerror}") from problem
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreFailed(f"checkpoint {id} in {self._root} is no file")
        return os.fdopen(descriptor, "rb")

    def look(self, id: UUID) -> Stored:
        """What is there of this id. Missing if nothing is."""
        try:
            found = self._path(id).lstat()
        except FileNotFoundError as problem:
            raise Missing(f"checkpoint {id} is not in {self._root}{_SHARED}") from problem
        except OSError as problem:
            raise StoreFailed(f"{self._root} cannot be read: {problem.strerror}") from problem
        return Stored(id=id, size=found.st_size, written=datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, id: UUID) -> bool:
        """Delete it; False if it was not there."""
        try:
            self._path(id).unlink()
        except FileNotFoundError:
            return False
        except OSError as problem:
            raise StoreFailed(f"checkpoint {id} could not be deleted: {problem.strerror}") from problem
        return True

    def list(self) -> Iterator[Stored]:
        """All that is stored, in no order."""
        for name in self._names(SUFFIX):
            with suppress(ValueError, Missing):  # somebody else's file, or deleted meanwhile
                yield self.look(UUID(name.removesuffix(SUFFIX)))

    def sweep(self, *, older_than: timedelta) -> int:
        """Delete what writers that died left half written; how many."""
        limit = (datetime.now(UTC) - older_than).timestamp()
        swept = 0
        for name in self._names(_PART):
            with suppress(FileNotFoundError):
                if (self._root / name).lstat().st_mtime < limit:
                    (self._root / name).unlink()
                    swept += 1
        return swept

    def beside(self, name: str) -> DirectoryStore:
        """The store in the folder of this name."""
        return DirectoryStore(self._root / name)

    def _path(self, id: UUID) -> Path:
        return self._root / name_of(id)

    def _names(self, ending: str) -> Iterator[str]:
        try:
            yield from (name for name in os.listdir(self._root) if name.endswith(ending))
        except FileNotFoundError:
            return
        except OSError as problem:
            raise StoreFailed(f"{self._root} cannot be read: {problem.strerror}") from problem

    def _sync(self) -> None:
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def name_of(id: UUID) -> str:
    """What a checkpoint is called in a store."""
    if not isinstance(id, UUID):
        raise TypeError(f"a checkpoint's id is a UUID, not {type(id).__name__}")
    return f"{id}{SUFFIX}"
