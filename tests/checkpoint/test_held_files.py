"""What a process may hold while it is away, a row of docs/checkpoints.md each: files."""

from __future__ import annotations

import fcntl
import mmap
import os
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from checkpoint.errors import RestoreFailed
from tests.checkpoint.holding import Held

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]


def test_a_file_being_read_goes_on_at_its_place(held: Held, tmp_path: Path) -> None:
    (tmp_path / "read").write_text("one\ntwo\nthree\n")

    def holding() -> Generator[None, None, object]:
        with open(tmp_path / "read") as file:
            first = file.readline()
            yield
            return [first, file.readline()]

    assert held.across(holding) == ["one\n", "two\n"]


def test_a_file_being_appended_to_may_grow_meanwhile(held: Held, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def holding() -> Generator[None, None, object]:
        with open(log, "a") as file:
            file.write("before\n")
            file.flush()
            os.set_blocking(file.fileno(), True)
            yield
            file.write("after\n")
        return log.read_text().splitlines()

    def grow() -> None:
        with log.open("a") as file:
            file.write("meanwhile\n")

    assert held.across(holding, grow) == ["before", "meanwhile", "after"]


def test_a_deleted_temporary_file_travels_in_the_image(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        with tempfile.TemporaryFile() as file:
            file.write(b"kept" * 500_000)
            yield
            file.seek(-4, os.SEEK_END)
            return file.read().decode()

    assert held.across(holding) == "kept"


def test_a_file_being_read_that_changed_its_size_is_refused(held: Held, tmp_path: Path) -> None:
    path = tmp_path / "read"
    path.write_text("one\n")

    def holding() -> Generator[None, None, object]:
        with open(path) as file:
            yield
            return file.read()

    with pytest.raises(RestoreFailed) as caught:
        held.across(holding, lambda: path.write_text("longer than before\n"))
    assert any("bad size" in line for line in caught.value.log)
    assert "close it before the wait" in caught.value.message


def test_a_working_directory_that_is_gone_is_refused_by_its_name(held: Held, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()

    def holding() -> Generator[None, None, object]:
        os.chdir(place)
        yield
        return os.getcwd()

    with pytest.raises(RestoreFailed) as caught:
        held.across(holding, place.rmdir)
    assert f"its process stood in {place}, which is not here" in caught.value.message


def test_a_file_that_is_gone_is_refused_by_its_name(held: Held, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_text("one\n")

    def holding() -> Generator[None, None, object]:
        with open(path) as file:
            yield
            return file.read()

    with pytest.raises(RestoreFailed, match="gone"):
        held.across(holding, path.unlink)


def test_a_file_lock_is_held_again(held: Held, tmp_path: Path) -> None:
    path = tmp_path / "locked"

    def holding() -> Generator[None, None, object]:
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            with open(path, "a") as other:
                try:
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return "locked"
            return "free"

    assert held.across(holding) == "locked"


def test_an_sqlite_database_goes_on_in_memory_and_on_disk(held: Held, tmp_path: Path) -> None:
    def holding() -> Generator[None, None, object]:
        memory, disk = sqlite3.connect(":memory:"), sqlite3.connect(tmp_path / "db")
        for database in (memory, disk):
            database.execute("CREATE TABLE t (n)")
            database.execute("INSERT INTO t VALUES (1)")
            database.commit()
        disk.execute("INSERT INTO t VALUES (2)")  # in an open transaction
        yield
        disk.execute("INSERT INTO t VALUES (3)")
        disk.commit()
        return [database.execute("SELECT sum(n) FROM t").fetchone()[0] for database in (memory, disk)]

    assert held.across(holding) == [1, 6]


def test_a_mapped_file_and_shared_memory_keep_their_content(held: Held, tmp_path: Path) -> None:
    (tmp_path / "mapped").write_bytes(bytes(8192))

    def holding() -> Generator[None, None, object]:
        block = shared_memory.SharedMemory(create=True, size=100_000)
        with open(tmp_path / "mapped", "r+b") as file, closing(mmap.mmap(file.fileno(), 0)) as mapped:
            mapped[:2], block.buf[:2] = b"ab", b"cd"
            yield
            found = bytes(mapped[:2]).decode() + bytes(block.buf[:2]).decode()
        block.close()
        block.unlink()
        return found

    assert held.across(holding) == "abcd"
