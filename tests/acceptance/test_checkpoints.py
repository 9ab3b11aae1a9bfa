"""Waiting by checkpoint: the process is gone, and goes on at the next line with all that it held in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

import checkpoint
from checkpoint import use
from tests.acceptance.cluster import ROOT, Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.memory import computes, connects, dozes, dreams, holds, holds_on, maps, pids, says, seldom_waits
from tests.acceptance.tasks import stays
from triggerapp.models import Checkpoint, LogLine, Run
from workers import events, light

pytestmark = pytest.mark.criu

Start = Callable[..., AbstractContextManager[Worker]]


@pytest.fixture(scope="module", autouse=True)
def _needs_criu() -> None:
    verdict = checkpoint.check()
    if not verdict.ok:
        pytest.skip(f"no CRIU: {verdict.reasons[0].message}")


@pytest.fixture
def here(worker: Start) -> Iterator[Start]:
    """A worker whose runs wait by checkpoint; after the test none of its processes is left."""
    queues: list[str] = []

    def start(**env: Any) -> AbstractContextManager[Worker]:
        queues.append(queue := f"acceptance-{os.urandom(3).hex()}")
        return worker("prefork", queue=queue, **{"ACCEPTANCE_CHECKPOINT": "on", **env})

    yield start
    wait_until(lambda: not any(map(left, queues)), within=10, reason=f"left: {[left(queue) for queue in queues]}")


def left(queue: str) -> list[psutil.Process]:
    """Zygotes and run processes of workers of this queue, whoever is their parent by now."""
    return [process for process in psutil.process_iter() if is_left(process, queue)]


def is_left(process: psutil.Process, queue: str) -> bool:
    with suppress(psutil.Error):
        return "workers.zygote" in process.cmdline() and process.environ().get("ACCEPTANCE_QUEUE") == queue
    return False


def run_of(result: Any) -> Run:
    return Run.objects.get(task_id=result.id)


def waiting(result: Any) -> Checkpoint:
    """The run's checkpoint, once it waits; its process is gone then or very soon."""
    wait_until(lambda: run_of(result).status == "waiting", within=90)
    return Checkpoint.objects.get(run__task_id=result.id)


def go(tag: str) -> None:
    events.send("go", {"tag": tag, "value": "came"})


def note_of(result: Any) -> str:
    return run_of(result).attempts.get().note


HELD = [0, 1, 2, 3, 4, "came", "closure", True]


def test_what_a_function_holds_in_memory_survives_its_wait(here: Start):
    with here() as mine:
        result = holds.delay(tag := fresh())
        found = waiting(result)
        assert found.wait == run_of(result).waiting_on
        wait_until(lambda: not psutil.pid_exists(found.pid))
        go(tag)
        assert result.get(timeout=30) == HELD, mine.text()
        assert notes(tag) == ["entered"] and note_of(result) == ""
        wait_until(lambda: not Checkpoint.objects.filter(run=run_of(result)).exists())
        mine.stop()


def test_where_the_base_is_mapped_the_image_holds_changes_alone(here: Start):
    with here(ACCEPTANCE_BASE="mapped") as mine:
        wait_until(lambda: "its base's, mapped" in mine.text(), within=60)
        result = holds.delay(tag := fresh())
        assert waiting(result).image_size < 30_000_000
        mine.kill9()
        go(tag)
        mine.restart()
        assert result.get(timeout=30) == HELD
        assert notes(tag) == ["entered"] and note_of(result) == ""


def test_a_second_worker_restores_what_a_killed_one_left(here: Start):
    with here() as mine:
        result = holds.delay(tag := fresh())
        waiting(result)
        mine.kill9()
        go(tag)
        mine.restart()
        assert result.get(timeout=30) == HELD
        assert notes(tag) == ["entered"] and note_of(result) == ""


def stored(mine: Worker, found: Checkpoint) -> Path:
    (path,) = Path(mine.log.parent / "store").rglob(f"{found.id}*")
    return path


@pytest.mark.parametrize("harm", ["deleted", "damaged", "another key"])
def test_an_image_that_cannot_be_used_means_a_re_entry_and_the_attempt_says_why(here: Start, harm: str):
    with here() as mine:
        result = holds.delay(tag := fresh())
        path = stored(mine, waiting(result))
        if harm == "deleted":
            path.unlink()
        elif harm == "damaged":
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 1
            path.write_bytes(raw)
        else:
            mine.stop()
            mine._environment["DJANGO_SECRET_KEY"] = "another"
            mine.restart()
        go(tag)
        assert result.get(timeout=30) == HELD
        assert notes(tag) == ["entered", "entered"]
        assert note_of(result).startswith("entered again and not restored:")
        tried = run_of(result).restores.get()
        assert tried.problem in note_of(result)
        says = {"deleted": "is not in", "damaged": "altered", "another key": "not in the ring"}
        assert says[harm] in note_of(result) or "damaged" in note_of(result)


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Folders that every user may write to, for a worker's images."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield {"TMPDIR": str(folder), "ACCEPTANCE_STORE": str(folder / "store")}
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can be somebody else")
@pytest.mark.parametrize("user", ["0", "65534"])
def test_two_capabilities_are_enough_for_root_and_for_any_other_user(
    here: Start, open_to_all: dict[str, str], user: str
):
    """The third one only lets it reach the tests' database, and a Python, in other users' folders."""
    granted = "-all,+checkpoint_restore,+setpcap,+dac_read_search"
    rights = [f"--{kind}={granted}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    with here(
        under=("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *rights), **open_to_all
    ) as mine:
        assert "waiting runs are kept as images" in mine.text() and "unprivileged" in mine.text(), mine.text()
        result = holds.delay(tag := fresh())
        waiting(result)
        go(tag)
        assert result.get(timeout=60) == HELD, mine.text()
        assert notes(tag) == ["entered"] and note_of(result) == ""
        mine.stop()


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
    wait_until(lambda: run_of(result).status == "waiting", within=90)
    assert not Checkpoint.objects.filter(run__task_id=result.id).exists()
    go(tag)
    assert result.get(timeout=60) == HELD
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


def test_a_store_that_is_down_costs_no_run(here: Start):
    """Nobody listens at its address."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with here(ACCEPTANCE_STORE="s3://images", AWS_ALLOW_HTTP="true", AWS_REGION="x", **nowhere):
        result = holds.delay(tag := fresh())
        assert waits_without_an_image(result, tag).startswith("not dumped at ")


def test_a_file_that_the_process_maps_and_that_is_another_by_now_means_a_re_entry(here: Start, tmp_path: Path):
    (tmp_path / "mapped").write_bytes(b"before" * 1000)
    with here():
        result = maps.delay(tag := fresh(), str(tmp_path / "mapped"))
        waiting(result)
        (tmp_path / "mapped").write_bytes(b"after!" * 1000)
        go(tag)
        assert result.get(timeout=30) == "after!"
        assert "mapped, which the process maps, is another file here" in note_of(result)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The address of a unix socket of another process."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        accepted: list[object] = []
        Thread(target=lambda: accepted.append(listener.accept()), daemon=True).start()
        yield str(tmp_path / "socket")


def test_what_no_image_can_carry_is_named_and_the_run_waits_without_a_process(here: Start, elsewhere: str):
    with here():
        result = connects.delay(tag := fresh(), elsewhere)
        wait_until(lambda: run_of(result).status == "waiting")
        assert not Checkpoint.objects.filter(run__task_id=result.id).exists()
        go(tag)
        assert result.get(timeout=30) == ["came", 1]
        assert "a unix connection to " in note_of(result)
        assert "close it before the wait" in note_of(result)


def test_what_is_registered_is_closed_before_the_dump_and_opened_after_it(here: Start, elsewhere: str):
    with here():
        result = connects.delay(tag := fresh(), elsewhere, registered=True)
        waiting(result)
        go(tag)
        assert result.get(timeout=30) == ["came", 1]
        assert notes(tag) == ["closed", "opened"]


def test_what_a_run_process_prints_and_logs_is_in_the_workers_log(here: Start):
    with here() as mine:
        says.delay("before", "after").get(timeout=30)
        for word in ("before", "after"):
            for way in ("logged", "printed", "from a child"):
                wait_until(lambda word=word, way=way: f"{way} {word}" in mine.text(), within=5)
        assert "ForkPoolWorker" in next(line for line in mine.text().splitlines() if "logged after" in line)


def test_what_a_run_process_prints_and_logs_is_kept_beside_the_run(here: Start):
    with here():
        result = says.delay("before", "after")
        result.get(timeout=30)
        lines = LogLine.objects.filter(run__task_id=result.id).order_by("id")
        expected = ["logged before", "printed before", "logged after", "printed after"]
        wait_until(lambda: list(lines.values_list("text", flat=True)) == expected)
        assert list(lines.values_list("logger", flat=True)) == ["tests.said", "stdout"] * 2
        restores = run_of(result).restores.all()
        assert [(each.problem, each.image_size > 0, bool(each.took)) for each in restores] == [("", True, True)] * 2


def test_a_process_whose_run_did_not_wait_serves_the_next_one(here: Start):
    with here() as mine:
        found = [pids.delay().get(timeout=30) for _ in range(6)]
        assert len({process for process, _ in found}) <= 2
        (zygote,) = {parent for _, parent in found}
        assert psutil.Process(zygote).ppid() == mine.pid


def test_runs_of_a_task_that_never_waits_stay_in_the_pool_process_until_one_waits(here: Start):
    with here(options=("-c", "1"), ACCEPTANCE_CHECKPOINT="auto") as mine:
        parents = [seldom_waits.delay("").get(timeout=30) for _ in range(light.IN_A_ROW)]
        assert mine.pid not in parents
        wait_until(lambda: seldom_waits.delay("").get(timeout=30) == mine.pid)
        for entries in (2, 1):
            result = seldom_waits.delay(tag := fresh(), seconds=0.5)
            assert result.get(timeout=60) != mine.pid
            assert notes(tag) == ["entered"] * entries and note_of(result) == ""
        mine.stop()


def test_a_killed_pool_process_takes_its_run_process_along(here: Start):
    """And so does a worker whose main process is killed."""
    with here() as mine:
        result = holds_on.delay(tag := fresh())
        (first,) = wait_until(lambda: notes(tag))
        for child in psutil.Process(mine.pid).children():
            if "celery" in child.cmdline():
                child.kill()
        wait_until(lambda: not psutil.pid_exists(first))
        wait_until(lambda: len(notes(tag)) == 2)
        os.kill(mine.pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(notes(tag)[1]))
        mine.wait()
        open_gate(tag)
        mine.restart()
        assert result.get(timeout=30) == tag


def test_a_canceled_runs_image_is_deleted(here: Start):
    with here() as mine:
        result = stays.delay(fresh())
        path = stored(mine, waiting(result))
        result.revoke()
        wait_until(lambda: not path.exists())


def test_a_deploy_moves_runs_in_the_middle_of_a_computation(here: Start):
    """Neither step nor wait: they are dumped where they are, and go on in the next worker."""
    with here(options=("-c", "8")) as mine:
        tags = [fresh() for _ in range(8)]
        results = [computes.delay(tag, 400) for tag in tags]
        wait_until(lambda: all(map(notes, tags)))
        mine.signal(signal.SIGTERM)
        mine.wait(120)
        found = [run_of(result) for result in results]
        assert [run.status for run in found] == ["queued"] * 8, mine.text()
        assert [run.checkpoint.wait for run in found] == [None] * 8
        mine.restart()
        ends = [result.get(timeout=120) for result in results]
        assert [note_of(result) for result in results] == [""] * 8
        assert ends == [[400, 1, 1]] * 8


def test_a_loop_goes_on_with_all_its_coroutines(here: Start):
    with here():
        result = dreams.delay(tag := fresh())
        waiting(result)
        go(tag)
        assert result.get(timeout=60) == ["came", True, True]
        assert notes(tag) == ["entered"] and note_of(result) == ""


def test_a_deploy_moves_a_run_out_of_the_middle_of_an_await(here: Start):
    with here() as mine:
        result = dozes.delay(tag := fresh(), 300)
        wait_until(lambda: notes(tag))
        mine.stop()
        assert run_of(result).status == "queued" and run_of(result).checkpoint.wait is None, mine.text()
        mine.restart()
        assert result.get(timeout=60) == [300, 1] and note_of(result) == ""


def base_of(mine: Worker) -> Path:
    """Where the memory is unpacked that this worker's images leave out, once the worker holds it."""
    (zygote,) = (child for child in psutil.Process(mine.pid).children() if "workers.zygote" in child.cmdline())
    (*_, home, _) = zygote.cmdline()
    made = Path(home) / f"base-{zygote.pid}"
    wait_until(made.exists)
    path = Path(home) / "images" / "bases" / f"{made.read_text()}.base"
    wait_until(lambda: use.is_held(path))
    return path


def test_a_workers_base_is_held_while_it_lives_and_goes_with_it(here: Start):
    """Though it has no image yet that needs it."""
    with here() as mine:
        path = base_of(mine)
        use.discard(path)
        assert path.exists()
        mine.stop()
        assert not path.exists()


def test_without_its_base_an_image_is_whole(here: Start):
    """Somebody tidied the temporary folder."""
    with here() as mine:
        base_of(mine).unlink()
        result = holds.delay(tag := fresh())
        assert waiting(result).size > 1_000_000
        go(tag)
        assert result.get(timeout=30) == HELD
        assert notes(tag) == ["entered"] and note_of(result) == ""
        assert "an image is stored whole" in mine.text()


def manage(mine: Worker, *arguments: str) -> Any:
    command = [sys.executable, "manage.py", "checkpoints", "--json", *arguments]
    done = subprocess.run(command, env=mine._environment, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_run_moves_when_somebody_asks_for_it(here: Start):
    with here() as mine:
        result = computes.delay(fresh(), 2000)
        wait_until(lambda: run_of(result).status == "running")
        run, lease = run_of(result).id, run_of(result).lease
        time.sleep(0.5)
        assert manage(mine, "pause", str(run)) == (0, {str(run): True})
        wait_until(lambda: run_of(result).lease != lease and run_of(result).status == "running")
        assert result.get(timeout=90) == [2000, 1, 1] and note_of(result) == ""
        assert manage(mine, "pause", str(run)) == (0, {str(run): False})


def test_images_are_listed_verified_and_deleted(here: Start):
    with here() as mine:
        results = [holds.delay(fresh()), holds.delay(tag := fresh())]
        found = [waiting(result) for result in results]
        runs = [str(each.run_id) for each in found]
        code, listed = manage(mine, "list")
        assert code == 0 and {row["run"] for row in listed} >= set(runs)
        assert all(0 < row["size"] < row["image_size"] for row in listed)
        assert manage(mine, "verify", *runs) == (0, dict.fromkeys(runs, ""))
        path = stored(mine, found[0])
        path.write_bytes(path.read_bytes()[:-100])
        code, problems = manage(mine, "verify", *runs)
        assert code == 1 and problems[runs[0]] and not problems[runs[1]]
        assert manage(mine, "delete", *runs) == (0, dict.fromkeys(runs, True))
        assert not path.exists() and not Checkpoint.objects.filter(run__in=runs).exists()
        go(tag)
        assert results[1].get(timeout=40) == HELD and note_of(results[1]) == ""
        assert notes(tag) == ["entered", "entered"]
