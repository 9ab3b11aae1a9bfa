"""Unpacked bases make room: who uses one holds it, the others go."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from checkpoint import base as files
from checkpoint import bases, use
from checkpoint.archive import Archive
from checkpoint.base import Base
from tests.checkpoint.test_base import make_image

HOUR = 3600.0
USER = """
import sys
from checkpoint import use
file = open(sys.argv[1], "rb")
use.hold(file)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_base_that_nobody_used_for_an_hour_makes_room_for_a_new_one(archive: Archive, tmp_path: Path) -> None:
    old, young = abandoned(archive, tmp_path, 1), abandoned(archive, tmp_path, 2)
    unused_for(old, HOUR + 60)
    unused_for(young, HOUR - 60)
    new = make(archive, tmp_path, 3)
    assert not old.exists() and young.exists() and new.path.exists()


def test_and_for_one_that_is_fetched(archive: Archive, tmp_path: Path) -> None:
    stored = make(archive, tmp_path, 1)
    archive.bases.keep(stored)
    elsewhere = replace(archive, scratch=tmp_path / "elsewhere")
    old = abandoned(elsewhere, tmp_path, 2)
    unused_for(old, HOUR + 60)
    elsewhere.bases.open(stored.digest)
    assert not old.exists()


def test_a_base_that_somebody_uses_stays_however_old_it_is(archive: Archive, tmp_path: Path) -> None:
    used = make(archive, tmp_path, 1)
    unused_for(used.path, 100 * HOUR)
    make(archive, tmp_path, 2)
    archive.bases.keep(used)
    assert archive.bases.store.look(used.id).size


def test_it_is_free_as_soon_as_its_user_is_gone(archive: Archive, tmp_path: Path) -> None:
    path = abandoned(archive, tmp_path, 1)
    arguments = [sys.executable, "-c", USER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout and user.stdout.readline() == b"held\n"
        use.discard(path)
        assert use.is_held(path)
        user.kill()
    use.discard(path)
    assert not path.exists()


@pytest.mark.slow
def test_what_nobody_uses_is_bounded_and_the_least_recently_used_goes(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [abandoned(archive, tmp_path, number) for number in range(5)]
    for age, path in enumerate(found):
        unused_for(path, 60 * age)
    held = make(archive, tmp_path, 5)
    monkeypatch.setattr(bases, "_SPARE", 2 * 512 * found[0].stat().st_blocks)  # it is sparse
    bases.make_room(archive.bases.folder)
    assert [path.exists() for path in found] == [True, True, False, False, False]
    assert held.path.exists()


def test_what_was_half_unpacked_by_somebody_who_died_goes_too(archive: Archive, tmp_path: Path) -> None:
    make(archive, tmp_path, 1)
    part = archive.bases.folder / "x.part"
    part.write_bytes(b"half")
    unused_for(part, 2 * HOUR)
    bases.make_room(archive.bases.folder)
    assert not part.exists()


def test_using_a_base_makes_it_young_again(archive: Archive, tmp_path: Path) -> None:
    path = abandoned(archive, tmp_path, 1)
    unused_for(path, 2 * HOUR)
    archive.bases.open(path.stem)
    assert time.time() - path.stat().st_mtime < HOUR


def test_who_comes_too_late_to_hold_a_file_is_told_that_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file:
        path.unlink()
        with pytest.raises(FileNotFoundError):
            use.hold(file)


def make(archive: Archive, tmp_path: Path, number: int) -> Base:
    """A base that this process uses."""
    return archive.bases.make(make_image(tmp_path / f"zygote-{number}", {0x1000: f"page {number}".encode()}))


def abandoned(archive: Archive, tmp_path: Path, number: int) -> Path:
    """One that was made and that nobody uses."""
    path = make(archive, tmp_path, number).path
    files._open.cache_clear()
    gc.collect()
    assert not use.is_held(path)
    return path


def unused_for(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_base_that_another_fetcher_replaces_just_then_is_opened_all_the_same(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = make(archive, tmp_path, 1)
    archive.bases.keep(stored)
    elsewhere = replace(archive, scratch=tmp_path / "elsewhere").bases
    path, hold, replaced = files.place_of(stored.digest, elsewhere.folder), use.hold, []

    def hold_after_others(file: IO[bytes]) -> None:
        if Path(file.name) == path and len(replaced) < 3:
            subprocess.run(["cp", "--sparse=always", path, f"{path}.part"], check=True)
            os.replace(f"{path}.part", path)
            replaced.append(path)
        hold(file)

    monkeypatch.setattr(use, "hold", hold_after_others)
    assert elsewhere.open(stored.digest).digest == stored.digest
    assert len(replaced) == 3
