"""Images that cannot be made, kept or used: the run is entered again, and its attempt says why."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.frozen import HELD, Start, base_of, go, note_of, stored, waiting
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.memory import connects, holds, leaves, maps, registers, waits_for
from tests.acceptance.runs import run_of
from triggerapp.errors import NotFound
from triggerapp.models import Checkpoint

pytestmark = pytest.mark.criu

ALONE = ("--concurrency", "1")
"""One process at a time serves all runs of the worker."""


def assert_entered_again(result: Any, tag: str, *, because: str) -> None:
    """The run, which waits, comes to its right end without its image, and its attempt says why."""
    go(tag)
    assert result.get(timeout=120) == HELD
    assert notes(tag) == ["entered", "entered"]
    assert note_of(result).startswith("entered again and not restored:")
    assert run_of(result).restores.get().problem in note_of(result)
    assert re.search(because, note_of(result))


def test_an_image_that_is_gone_means_a_re_entry(frozen: Worker):
    result = holds.delay(tag := fresh())
    stored(frozen, waiting(result)).unlink()
    assert_entered_again(result, tag, because="is not in")


def test_a_damaged_image_means_a_re_entry(frozen: Worker):
    result = holds.delay(tag := fresh())
    path = stored(frozen, waiting(result))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert_entered_again(result, tag, because="altered|damaged")


def test_an_image_sealed_with_another_key_means_a_re_entry(here: Start):
    with here() as mine:
        result = holds.delay(tag := fresh())
        waiting(result)
        mine.stop()
        mine.environment["DJANGO_SECRET_KEY"] = "another"
        mine.restart()
        assert_entered_again(result, tag, because="not in the ring")


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def waits_without_an_image(result: Any, tag: str) -> str:
    """The run waits all the same and comes to its right end; what its attempt says."""
    wait_until(lambda: run_of(result).status == "waiting", within=120)
    assert not Checkpoint.objects.filter(run__task_id=result.id).exists()
    go(tag)
    assert result.get(timeout=120) == HELD
    assert notes(tag) == ["entered", "entered"]
    return note_of(result)


def test_a_disk_that_is_full_in_the_middle_of_a_dump_costs_no_run(here: Start, tiny: Path):
    with here(TMPDIR=str(tiny)) as mine:
        result = holds.delay(tag := fresh())
        note = waits_without_an_image(result, tag)
        assert note.startswith("not dumped at ")
        assert "No space left" in mine.text()  # CRIU's log, which the note ends with, may have been cut by it too
        assert not list(tiny.rglob("pages-*.img"))


def test_a_full_store_costs_no_run(here: Start, tiny: Path):
    (tiny / "other").write_bytes(bytes(7_900_000))
    with here(ACCEPTANCE_STORE=str(tiny / "store")):
        result = holds.delay(tag := fresh())
        assert "No space left" in waits_without_an_image(result, tag)


def test_a_store_with_as_much_as_it_may_hold_costs_no_run(here: Start, tmp_path: Path):
    with here(options=ALONE, ACCEPTANCE_STORE=str(tmp_path / "store"), ACCEPTANCE_QUOTA="1"):
        first = holds.delay(one := fresh())
        waiting(first)
        second = holds.delay(two := fresh())
        assert "raise the quota (CHECKPOINT_QUOTA_BYTES)" in waits_without_an_image(second, two)
        go(one)
        assert first.get(timeout=120) == HELD


def test_a_store_that_is_down_costs_no_run(here: Start):
    """Nobody listens at its address."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with here(ACCEPTANCE_STORE="s3://images", AWS_ALLOW_HTTP="true", AWS_REGION="x", **nowhere):
        result = holds.delay(tag := fresh())
        assert waits_without_an_image(result, tag).startswith("not dumped at ")


def test_a_file_that_the_process_maps_and_that_is_another_by_now_means_a_re_entry(frozen: Worker, tmp_path: Path):
    (tmp_path / "mapped").write_bytes(b"before" * 1000)
    result = maps.delay(tag := fresh(), str(tmp_path / "mapped"))
    waiting(result)
    (tmp_path / "mapped").write_bytes(b"after!" * 1000)
    go(tag)
    assert result.get(timeout=120) == "after!"
    assert "mapped, which the process maps, is another file here" in note_of(result)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The address of a unix socket of another process."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        Thread(target=_welcome, args=[listener, accepted := []], daemon=True).start()
        yield str(tmp_path / "socket")
        assert accepted


def _welcome(listener: socket.socket, accepted: list[socket.socket]) -> None:
    """Greet all who connect, and hold their connections."""
    with suppress(OSError):  # the end of the test closes it
        while True:
            accepted.append(listener.accept()[0])
            accepted[-1].send(b".")


def test_what_no_image_can_carry_is_named_and_the_run_waits_without_a_process(frozen: Worker, elsewhere: str):
    result = connects.delay(tag := fresh(), elsewhere)
    wait_until(lambda: run_of(result).status == "waiting")
    assert not Checkpoint.objects.filter(run__task_id=result.id).exists()
    go(tag)
    assert result.get(timeout=120) == ["came", 1]
    assert "a unix connection to " in note_of(result)
    assert "close it before the wait" in note_of(result)


def test_what_is_registered_is_closed_before_the_dump_and_opened_after_it(frozen: Worker, elsewhere: str):
    result = connects.delay(tag := fresh(), elsewhere, registered=True)
    waiting(result)
    go(tag)
    assert result.get(timeout=120) == ["came", 1]
    assert notes(tag) == ["closed", "opened"]


def test_what_a_run_leaves_to_its_process_is_in_the_way_of_one_other_at_most(here: Start, elsewhere: str):
    with here(options=ALONE):
        leaves.delay(elsewhere).get(timeout=120)
        refused = holds.delay(tag := fresh())
        assert "a unix connection to " in waits_without_an_image(refused, tag)
        dumped = holds.delay(tag := fresh())
        waiting(dumped)
        go(tag)
        assert dumped.get(timeout=120) == HELD
        assert note_of(dumped) == ""


def test_what_a_run_registers_is_its_own(here: Start):
    with here(options=ALONE):
        assert registers.delay(fresh(), waits=False).get(timeout=120) == "over"
        dumped = holds.delay(tag := fresh())
        waiting(dumped)
        go(tag)
        assert dumped.get(timeout=120) == HELD
        assert note_of(dumped) == ""


def test_what_cannot_be_closed_means_a_wait_without_an_image_and_the_rest_is_opened_again(frozen: Worker):
    result = registers.delay(tag := fresh(), waits=True)
    wait_until(lambda: run_of(result).status == "waiting", within=120)
    assert notes(tag) == ["entered", "closed", "opened"]
    go(tag)
    assert result.get(timeout=120) == "came"
    assert note_of(result).endswith(": closing Counter raised RuntimeError('it is stuck')")


def test_a_wait_that_cannot_be_opened_is_the_functions_to_hear_of(frozen: Worker):
    with pytest.raises(NotFound, match="does not exist, or belongs to another run"):
        waits_for.delay(f"waitpoint_{uuid4()}").get(timeout=120)


def test_without_its_base_an_image_is_whole(here: Start):
    """Somebody tidied the temporary folder."""
    with here() as mine:
        base_of(mine).unlink()
        result = holds.delay(tag := fresh())
        assert waiting(result).size > 1_000_000
        go(tag)
        assert result.get(timeout=120) == HELD
        assert notes(tag) == ["entered"] and note_of(result) == ""
        assert "an image is stored whole" in mine.text()
