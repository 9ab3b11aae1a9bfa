"""The keeper of a zygote: it holds the zygote's base, and leaves nothing of a zygote that could not be started."""

from __future__ import annotations

import errno
import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import IO, Any

import pytest

import checkpoint
from checkpoint import Verdict, use
from checkpoint.base import place_of
from workers import keeper, link
from workers.keeper import Keeper

DIGEST = "ab" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A worker's folder."""
    folder = tmp_path / "home"
    (folder / "images" / "bases").mkdir(parents=True)
    return folder


@pytest.fixture
def kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A keeper whose zygote, number 7, has made its base and works."""
    zygote = SimpleNamespace(pid=7, poll=lambda: None)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: zygote)
    (home / "base-7").write_text(DIGEST)
    kept = Keeper("an.app:app", home, (home / "lock").open("wb"))
    yield kept
    kept._give_up()
    kept._let_go_of_base()
    kept._lock.close()


def test_a_base_that_was_deleted_while_it_was_opened_is_held_when_it_is_there_again(
    kept: Keeper, home: Path, monkeypatch: pytest.MonkeyPatch
):
    place = place_of(DIGEST, home / "images" / "bases")
    place.touch()
    opened: list[IO[bytes]] = []
    hold = use.hold

    def too_late(file: IO[bytes]) -> None:
        opened.append(file)
        place.unlink()
        hold(file)

    monkeypatch.setattr(use, "hold", too_late)
    kept.look_after()
    monkeypatch.setattr(use, "hold", hold)
    assert [file.closed for file in opened] == [True]

    place.touch()
    kept.look_after()
    assert use.is_held(place)
    use.discard(place)
    assert place.exists()


def test_a_zygote_that_cannot_be_started_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch):
    listeners: list[socket] = []
    listen = checkpoint.listen

    def heard(address: Path) -> socket:
        listeners.append(listen(address))
        return listeners[-1]

    def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    lock = (home / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    monkeypatch.setattr(checkpoint, "check", lambda: Verdict(ok=True))
    monkeypatch.setattr(checkpoint, "listen", heard)
    monkeypatch.setattr(keeper, "_settle", lambda: (home, lock))
    monkeypatch.setattr(link, "tell", lambda what, *, how: None)
    monkeypatch.setattr(subprocess, "Popen", fill)
    with closing(lock):
        assert Keeper.make("an.app:app") is None
        assert not home.exists()
        assert lock.closed
        assert [listener.fileno() for listener in listeners] == [-1]
