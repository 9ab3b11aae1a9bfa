"""The store behind a network: S3 and what speaks like it, through obstore (the extra `s3`).

Only where checkpoints are kept in one is this imported. obstore works with threads of its own: a process that used it
is not to be forked.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from uuid import UUID

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import from_url

from checkpoint.errors import Exists, Missing, StoreFailed
from checkpoint.store import SUFFIX, Stored, name_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as Remote

PATIENCE: Final = timedelta(seconds=10)
"""For one request. A checkpoint that cannot be stored in time leaves its process where it is."""

_CONNECT: Final = timedelta(seconds=3)
_RETRIES: Final = 2
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3")
_IN_MEMORY: Final = 32 << 20
_AT_ONCE: Final = 1 << 20


class ObjectStore:
    """Checkpoints as objects under one prefix."""

    def __init__(self, remote: Remote, prefix: str = "") -> None:
        self._remote = remote
        self._prefix = prefix.strip("/")

    @classmethod
    def at(cls, url: str, *, timeout: timedelta = PATIENCE) -> ObjectStore:
        """The one at a url such as `s3://bucket/prefix`; keys and region come from the usual AWS variables."""
        client = {"timeout": _span(timeout), "connect_timeout": _span(min(timeout, _CONNECT))}
        if any(os.environ.get(name, "").startswith("http:") for name in _ENDPOINTS):
            client["allow_http"] = "true"  # who names such an endpoint means it
        retry = {"max_retries": _RETRIES, "retry_timeout": timeout}
        try:
            remote = from_url(url, client_options=client, retry_config=retry)  # type: ignore[call-overload]
        except (BaseError, ValueError) as problem:
            raise StoreFailed(f"{url} is no place for checkpoints: {_first(problem)}") from problem
        return cls(remote)

    def put(self, id: UUID, fill: Callable[[BinaryIO], None]) -> Stored:
        """Store what `fill` writes. Exists if there is one of this id; StoreFailed leaves nothing."""
        path = self._path(id)
        with _told(id, "stored"), SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            fill(cast("BinaryIO", file))
            file.seek(0)
            # Only a single request can be told to create and never to replace.
            obstore.put(self._remote, path, cast("BinaryIO", file), mode="create", use_multipart=False)
        return self.look(id)

    def get(self, id: UUID) -> BinaryIO:
        """The stored stream, opened. Missing if there is none."""
        path = self._path(id)
        with _told(id, "read"):
            found = obstore.get(self._remote, path)
            return io.BufferedReader(_Stream(found.stream(min_chunk_size=_AT_ONCE), id))

    def look(self, id: UUID) -> Stored:
        """What is there of this id. Missing if nothing is."""
        path = self._path(id)
        with _told(id, "looked at"):
            return _stored(id, obstore.head(self._remote, path))

    def delete(self, id: UUID) -> bool:
        """Delete it; False if it was not there."""
        try:
            self.look(id)
        except Missing:
            return False
        with _told(id, "deleted"):
            obstore.delete(self._remote, self._path(id))
        return True

    def list(self) -> Iterator[Stored]:
        """All that is stored, in no order."""
        with _told(None, "listed"):
            found = obstore.list_with_delimiter(self._remote, self._prefix or None)["objects"]
        for meta in found:
            name = meta["path"].rpartition("/")[2]
            with suppress(ValueError):  # somebody else's object
                if name.endswith(SUFFIX):
                    yield _stored(UUID(name.removesuffix(SUFFIX)), meta)

    def sweep(self, *, older_than: timedelta) -> int:
        """Nothing is ever half written here."""
        return 0

    def beside(self, name: str) -> ObjectStore:
        """The store under a longer prefix."""
        return ObjectStore(self._remote, f"{self._prefix}/{name}")

    def _path(self, id: UUID) -> str:
        return f"{self._prefix}/{name_of(id)}".lstrip("/")


class _Stream(io.RawIOBase):
    """The pieces of an object as a file."""

    def __init__(self, pieces: Iterable[bytes], id: UUID) -> None:
        self._pieces = iter(pieces)
        self._id = id
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: WriteableBuffer, /) -> int:
        buffer = memoryview(into)
        if not self._held:
            with _told(self._id, "read"):
                self._held = memoryview(next(self._pieces, b""))
        size = min(len(buffer), len(self._held))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size


@contextmanager
def _told(id: UUID | None, what: str) -> Iterator[None]:
    """Errors in this package's words."""
    which = f"checkpoint {id}" if id else "checkpoints"
    try:
        yield
    except AlreadyExistsError as problem:
        raise Exists(f"{which} is stored already, and is never written again") from problem
    except (NotFoundError, FileNotFoundError) as problem:
        raise Missing(f"{which} is not in the object store") from problem
    except (BaseError, OSError) as problem:
        raise StoreFailed(f"{which} could not be {what}: {_first(problem)}") from problem


def _stored(id: UUID, meta: ObjectMeta) -> Stored:
    return Stored(id=id, size=meta["size"], written=meta["last_modified"])


def _span(time: timedelta) -> str:
    return f"{time.total_seconds():g}s"


def _first(problem: Exception) -> str:
    """What obstore says, without what it adds for those who debug it."""
    return str(problem).partition("\n")[0]
