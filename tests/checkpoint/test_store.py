"""The folder as a store: written whole or not at all, and never over."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

import pytest

from checkpoint.errors import Exists, Missing, StoreFailed
from checkpoint.store import DirectoryStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def test_what_was_put_is_got_listed_and_deleted(store: DirectoryStore) -> None:
    id = uuid4()
    stored = store.put(id, write(b"image"))
    assert (stored.id, stored.size) == (id, 5)
    assert datetime.now(UTC) - stored.written < timedelta(minutes=10)
    with store.get(id) as file:
        assert file.read() == b"image"
    assert list(store.list()) == [stored]
    assert store.delete(id)
    assert not store.delete(id)
    assert list(store.list()) == []


def test_a_checkpoint_is_written_once(store: DirectoryStore) -> None:
    id = uuid4()
    store.put(id, write(b"first"))
    with pytest.raises(Exists):
        store.put(id, write(b"second"))
    assert store.get(id).read() == b"first"


def test_a_full_disk_leaves_nothing(store: DirectoryStore, root: Path) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreFailed, match="No space left"):
        store.put(uuid4(), fill)
    assert os.listdir(root) == []


def test_what_is_not_there_is_missing(store: DirectoryStore) -> None:
    with pytest.raises(Missing):
        store.get(uuid4())
    assert list(store.list()) == []


def test_only_uuids_name_a_checkpoint(store: DirectoryStore) -> None:
    for name in ("../../etc/passwd", str(uuid4())):
        with pytest.raises(TypeError):
            store.get(name)  # type: ignore[arg-type]


def test_a_link_or_a_pipe_in_the_store_is_not_followed(store: DirectoryStore, root: Path) -> None:
    store.put(uuid4(), write(b"image"))
    for id, make in ((uuid4(), lambda path: path.symlink_to("/etc/passwd")), (uuid4(), os.mkfifo)):
        make(root / f"{id}.checkpoint")
        with pytest.raises(StoreFailed):
            store.get(id)


def test_only_this_user_reads_the_store(store: DirectoryStore, root: Path) -> None:
    id = uuid4()
    store.put(id, write(b"image"))
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / f"{id}.checkpoint").stat().st_mode & 0o777 == 0o600


def test_what_a_dead_writer_left_is_swept_and_the_rest_is_not(store: DirectoryStore, root: Path) -> None:
    id = UUID(int=7)
    store.put(id, write(b"image"))
    for name, age in (("old.part", 7200), ("new.part", 0), ("notes.txt", 7200)):
        (root / name).touch()
        moment = datetime.now(UTC).timestamp() - age
        os.utime(root / name, (moment, moment))
    assert store.sweep(older_than=timedelta(hours=1)) == 1
    assert sorted(os.listdir(root)) == [f"{id}.checkpoint", "new.part", "notes.txt"]
    assert [stored.id for stored in store.list()] == [id]


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="Not a directory"):
        DirectoryStore(tmp_path / "file" / "store").put(uuid4(), write(b""))


def write(content: bytes):  # type: ignore[no-untyped-def]
    return lambda file: file.write(content)
