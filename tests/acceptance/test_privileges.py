"""Waiting by checkpoint with the rights that workers have elsewhere; and where they have too few, by re-entry."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.conf import settings

from checkpoint import binary
from tests import criu
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.frozen import HELD, Start, go, note_of, waiting
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.memory import computes, holds, rights
from tests.acceptance.runs import run_of
from tests.box import DOCKERS, NOBODY, box
from tests.helped import beside
from triggerapp.models import Checkpoint

pytestmark = pytest.mark.criu


@pytest.fixture(scope="module", autouse=True)
def _needs_root() -> None:
    criu.require_root()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user may enter and write to."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def places(folder: Path) -> dict[str, str]:
    """Where a worker that is somebody else keeps its images; the key that seals them lies in a file it cannot read."""
    return {
        "TMPDIR": str(folder),
        "ACCEPTANCE_STORE": str(folder / "store"),
        "DJANGO_SECRET_KEY": settings.SECRET_KEY,
    }


def boxed(*options: str) -> tuple[str, ...]:
    """In a box from which the tests' database is reached: its socket lies in a folder of its account's own."""
    sockets = Path(unquote(urlsplit(os.environ["DATABASE_URL"]).netloc.rpartition("@")[2].rpartition(":")[0]))
    return box("--reach", str(sockets / "socket"), *options) if sockets.is_absolute() else box(*options)


def waits_by_image(mine: Worker, *, how: str = "unprivileged") -> None:
    """A run of this worker goes through a dump and a restore, with everything it held."""
    assert "waiting runs are kept as images" in mine.text() and how in mine.text(), mine.text()
    result = holds.delay(tag := fresh())
    waiting(result)
    go(tag)
    assert result.get(timeout=120) == HELD, mine.text()
    assert notes(tag) == ["entered"] and note_of(result) == ""


def rights_over_a_wait() -> tuple[dict[str, str], dict[str, str]]:
    """What the code of a task may do, before its process was dumped and after it was restored."""
    result = rights.delay(tag := fresh())
    waiting(result)
    go(tag)
    before, after = (dict(line.split(":\t", 1) for line in lines) for lines in result.get(timeout=120))
    assert notes(tag) == ["entered"]
    return before, after


def moves_its_runs_out(mine: Worker, end: Path) -> None:
    """Computations of this worker go on, where they were, in the next one."""
    tags = [fresh() for _ in range(4)]
    results = [computes.delay(tag, str(end)) for tag in tags]
    wait_until(lambda: all(map(notes, tags)), within=120)
    mine.signal(signal.SIGTERM)
    mine.wait(120)
    found = [run_of(result) for result in results]
    assert [(run.status, run.checkpoint.wait) for run in found] == [("queued", None)] * 4, mine.text()
    mine.restart()
    end.touch()
    for result in results:
        *counted, entries = result.get(timeout=120)
        assert counted == [0, 1]
        if entries == 1:
            assert note_of(result) == ""
        else:  # where pids cannot be chosen one may be taken at the restore: the run says so
            assert "is in use by" in note_of(result)


@pytest.mark.parametrize("user", [0, NOBODY])
def test_two_capabilities_are_enough_for_root_and_for_any_other_user(here: Start, places: dict[str, str], user: int):
    two = "checkpoint_restore,setpcap"
    with here(under=boxed("--user", str(user), "--ambient", two, "--capabilities", two), **places) as mine:
        waits_by_image(mine)
        mine.stop()


def test_a_worker_without_any_capability_dumps_and_restores_by_those_of_the_file(
    here: Start, places: dict[str, str], folder: Path
):
    """And its tasks have no more rights after a wait than before it: none."""
    start = criu.with_capabilities(folder)
    with here(options=("-c", "4"), under=boxed(*criu.member()), **places, **{binary.VARIABLE: str(start)}) as mine:
        waits_by_image(mine)
        before, after = rights_over_a_wait()
        assert before == after
        assert before["Uid"].split() == [str(NOBODY)] * 4
        assert {int(before[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        moves_its_runs_out(mine, folder / "end")


def test_a_worker_without_any_capability_dumps_and_restores_through_the_helper(
    here: Start, places: dict[str, str], folder: Path
):
    """And its tasks have the rights after a wait that they had before it, though it may never get any itself."""
    options = ("-c", "4")
    under = (*boxed(), *beside(criu.group()), "setpriv", "--no-new-privs")
    with here(options=options, under=under, **places) as mine:
        waits_by_image(mine, how="through the helper")
        before, after = rights_over_a_wait()
        assert before == after
        assert before["Uid"].split() == [str(NOBODY)] * 4 and before["NoNewPrivs"] == "1"
        assert {int(before[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert "Restore(" in mine.text() and "Traceback" not in mine.text()
        moves_its_runs_out(mine, folder / "end")


def test_in_a_container_one_more_capability_than_dockers_is_enough(here: Start, folder: Path):
    """On overlayfs, in other namespaces; its images and servers are in volumes."""
    options = ("--container", "--capabilities", f"{DOCKERS},checkpoint_restore", "--volume", os.environ["TMPDIR"])
    places = {"TMPDIR": "/run", "ACCEPTANCE_STORE": str(folder / "store")}
    with here(options=("-c", "4"), under=boxed(*options), **places) as mine:
        waits_by_image(mine)
        before, after = rights_over_a_wait()
        assert before == after and int(before["CapEff"], 16) == 0x100A80425FB
        moves_its_runs_out(mine, folder / "end")


OLD = "#!/bin/sh\necho Version: 4.1.1\n"


@pytest.mark.parametrize(
    ("options", "says", "remedy"),
    [
        (("--filter",), "a seccomp filter is on", "seccomp=unconfined"),
        (("--capabilities", DOCKERS), "lacks CAP_CHECKPOINT_RESTORE", "AmbientCapabilities=CAP_CHECKPOINT_RESTORE"),
        (("--capabilities", f"{DOCKERS},checkpoint_restore"), "CRIU 4.1.1", "python -m checkpoint install"),
    ],
    ids=["under a filter", "without the capability", "with an old CRIU"],
)
def test_where_it_cannot_work_the_log_says_why_and_nothing_is_lost(
    here: Start, folder: Path, options: tuple[str, ...], says: str, remedy: str
):
    env: dict[str, Any] = {}
    if "CRIU" in says.split():
        old = folder / "criu"
        old.write_text(OLD)
        old.chmod(0o755)
        env[binary.VARIABLE] = str(old)
    with here(under=boxed(*options), **env) as mine:
        log = mine.text()
        assert "entered again from their journal" in log and says in log and remedy in log, log
        assert "Traceback" not in log
        result = holds.delay(tag := fresh())
        wait_until(lambda: run_of(result).status == "waiting", within=120)
        assert not Checkpoint.objects.filter(run__task_id=result.id).exists()
        go(tag)
        assert result.get(timeout=120) == HELD, mine.text()
        assert notes(tag) == ["entered", "entered"]
        mine.stop()
