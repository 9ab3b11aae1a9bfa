"""Waiting by checkpoint: the process is gone, and goes on at the next line with all that it held in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from checkpoint import use
from tests.acceptance.cluster import ROOT, Worker, wait_until
from tests.acceptance.frozen import HELD, Start, base_of, go, note_of, stored, waiting
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.memory import computes, dozes, dreams, holds, holds_on, pids, says, seldom_waits, steps_between
from tests.acceptance.runs import end_leases, run_of, status
from tests.acceptance.tasks import stays
from triggerapp.models import Checkpoint, LogLine
from workers import light

pytestmark = pytest.mark.criu


def test_what_a_function_holds_in_memory_survives_its_wait(here: Start):
    with here() as mine:
        result = holds.delay(tag := fresh())
        found = waiting(result)
        assert found.wait == run_of(result).waiting_on
        wait_until(lambda: not psutil.pid_exists(found.pid))
        go(tag)
        assert result.get(timeout=120) == HELD, mine.text()
        assert notes(tag) == ["entered"] and note_of(result) == ""
        wait_until(lambda: not Checkpoint.objects.filter(run=run_of(result)).exists())
        mine.stop()


def test_where_the_base_is_mapped_the_image_holds_changes_alone(here: Start):
    with here(ACCEPTANCE_BASE="mapped") as mine:
        wait_until(lambda: "its base's, mapped" in mine.text(), within=120)
        result = holds.delay(tag := fresh())
        assert waiting(result).image_size < 30_000_000
        mine.kill9()
        go(tag)
        mine.restart()
        assert result.get(timeout=120) == HELD
        assert notes(tag) == ["entered"] and note_of(result) == ""


def test_a_second_worker_restores_what_a_killed_one_left(here: Start):
    with here() as mine:
        result = holds.delay(tag := fresh())
        waiting(result)
        mine.kill9()
        go(tag)
        mine.restart()
        assert result.get(timeout=120) == HELD
        assert notes(tag) == ["entered"] and note_of(result) == ""


def test_a_run_whose_workers_differ_in_how_runs_wait_does_each_step_once(here: Start):
    """The last one restores an image of an earlier wait than the one that the run stands at."""
    with here() as mine:
        result = steps_between.delay(tag := fresh())
        for how, day in (("off", "monday"), ("off", "tuesday"), ("on", "wednesday")):
            wait_until(lambda: status(result) == "waiting")
            mine.kill9()
            mine.environment["ACCEPTANCE_CHECKPOINT"] = how
            go(f"{tag} {day}")
            mine.restart()
            wait_until(lambda day=day: [day, "came"] in notes(tag))
        assert result.get(timeout=120) == [[day, "came"] for day in ("monday", "tuesday", "wednesday")]
        assert [what for what in notes(tag) if what != "entered"] == result.get()
        assert notes(tag).count("entered") == 3  # once to begin with, and by each worker that restores none
        assert note_of(result).count("restores no images; the workers page says why") == 1


def test_what_a_run_process_prints_and_logs_is_in_the_workers_log(frozen: Worker):
    says.delay("before", "after").get(timeout=120)
    for word in ("before", "after"):
        for way in ("logged", "printed", "from a child"):
            wait_until(lambda word=word, way=way: f"{way} {word}" in frozen.text())
    assert "ForkPoolWorker" in next(line for line in frozen.text().splitlines() if "logged after" in line)


def test_what_a_run_process_prints_and_logs_is_kept_beside_the_run(frozen: Worker):
    result = says.delay("before", "after")
    result.get(timeout=120)
    lines = LogLine.objects.filter(run__task_id=result.id).order_by("id")
    expected = ["logged before", "printed before", "logged after", "printed after"]
    wait_until(lambda: list(lines.values_list("text", flat=True)) == expected)
    assert list(lines.values_list("logger", flat=True)) == ["tests.said", "stdout"] * 2
    restores = run_of(result).restores.all()
    assert [(each.problem, each.image_size > 0, bool(each.took)) for each in restores] == [("", True, True)] * 2


def test_a_process_whose_run_did_not_wait_serves_the_next_one(here: Start):
    with here() as mine:
        found = [pids.delay().get(timeout=120) for _ in range(6)]
        assert len({(pid, since) for pid, since, _ in found}) <= 2
        (zygote,) = {parent for *_, parent in found}
        assert psutil.Process(zygote).ppid() == mine.pid


@pytest.mark.parametrize(
    ("conf", "most"), [({"worker_max_tasks_per_child": 2}, 2), ({"worker_max_memory_per_child": 1}, 1)]
)
def test_a_run_process_serves_no_more_runs_than_celery_lets_its_pool_process(here: Start, conf: Any, most: int):
    with here(options=("-c", "1"), conf=conf) as mine:
        served = Counter(tuple(pids.delay().get(timeout=120)[:2]) for _ in range(6))
        assert max(served.values()) == most and len(served) == 6 // most, mine.text()


def test_runs_of_a_task_that_never_waits_stay_in_the_pool_process_until_one_waits(here: Start):
    with here(options=("-c", "1"), ACCEPTANCE_CHECKPOINT="auto", ACCEPTANCE_SHORT="3600") as mine:
        parents = [seldom_waits.delay("").get(timeout=120) for _ in range(light.IN_A_ROW)]
        assert mine.pid not in parents
        wait_until(lambda: seldom_waits.delay("").get(timeout=120) == mine.pid)
        for entries in (2, 1):
            result = seldom_waits.delay(tag := fresh(), seconds=0.5)
            assert result.get(timeout=120) != mine.pid
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
        wait_until(lambda: len(notes(tag)) >= 2)
        os.kill(mine.pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(notes(tag)[1]))
        mine.wait()
        end_leases(mine)
        open_gate(tag)
        mine.restart()
        assert result.get(timeout=120) == tag


def test_a_canceled_runs_image_is_deleted(frozen: Worker):
    result = stays.delay(fresh())
    path = stored(frozen, waiting(result))
    result.revoke()
    wait_until(lambda: not path.exists())


_SHUTDOWNS: list[Any] = [
    pytest.param(signal.SIGTERM, 8, {}, {}, id="warm"),
    pytest.param(signal.SIGTERM, 4, {"REMAP_SIGTERM": "SIGQUIT"}, {}, id="remapped"),
    pytest.param(signal.SIGQUIT, 4, {}, {}, id="cold"),
    pytest.param(signal.SIGQUIT, 8, {}, {"worker_soft_shutdown_timeout": 12.0}, id="soft"),
]


@pytest.mark.parametrize(("sent", "runs", "env", "conf"), _SHUTDOWNS)
def test_a_deploy_moves_runs_in_the_middle_of_a_computation(
    here: Start, tmp_path: Path, sent: signal.Signals, runs: int, env: dict[str, str], conf: dict[str, Any]
):
    """Neither step nor wait: they are dumped where they are, and go on in the next worker."""
    with here(options=("-c", str(runs)), conf=conf, **env) as mine:
        tags = [fresh() for _ in range(runs)]
        results = [computes.delay(tag, str(tmp_path / "end")) for tag in tags]
        wait_until(lambda: all(map(notes, tags)))
        mine.signal(sent)
        mine.wait(120)
        found = [run_of(result) for result in results]
        assert [run.status for run in found] == ["queued"] * runs, mine.text()
        assert [run.checkpoint.wait for run in found] == [None] * runs
        mine.restart()
        (tmp_path / "end").touch()
        ends = [result.get(timeout=120) for result in results]
        assert [note_of(result) for result in results] == [""] * runs
        assert ends == [[0, 1, 1]] * runs


def test_a_loop_goes_on_with_all_its_coroutines(frozen: Worker):
    result = dreams.delay(tag := fresh())
    waiting(result)
    go(tag)
    assert result.get(timeout=120) == ["came", True, True]
    assert notes(tag) == ["entered"] and note_of(result) == ""


def test_a_deploy_moves_a_run_out_of_the_middle_of_an_await(here: Start, tmp_path: Path):
    with here() as mine:
        result = dozes.delay(tag := fresh(), str(tmp_path / "end"))
        wait_until(lambda: notes(tag))
        mine.stop()
        assert run_of(result).status == "queued" and run_of(result).checkpoint.wait is None, mine.text()
        mine.restart()
        (tmp_path / "end").touch()
        assert result.get(timeout=120) == 1 and note_of(result) == ""


def test_a_workers_base_is_held_while_it_lives_and_goes_with_it(here: Start):
    """Though it has no image yet that needs it."""
    with here() as mine:
        path = base_of(mine)
        use.discard(path)
        assert path.exists()
        mine.stop()
        assert not path.exists()


def test_with_the_last_worker_go_the_bases_that_it_fetched(here: Start, tmp_path: Path):
    """They are memory in the clear; the store has them sealed."""
    with here(TMPDIR=str(tmp_path)) as mine:
        first = base_of(mine).resolve()  # its worker's folder goes with it
        result = holds.delay(tag := fresh())
        waiting(result)
        mine.stop()
        assert not first.exists()
        mine.restart()
        go(tag)
        assert result.get(timeout=120) == HELD and note_of(result) == ""
        assert first.exists()
        mine.stop()
        assert not list(first.parent.iterdir())


def manage(mine: Worker, *arguments: str) -> Any:
    command = [sys.executable, "manage.py", "checkpoints", "--json", *arguments]
    done = subprocess.run(command, env=mine.environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_run_moves_when_somebody_asks_for_it(frozen: Worker, tmp_path: Path):
    result = computes.delay(tag := fresh(), str(tmp_path / "end"))
    wait_until(lambda: notes(tag))
    run, lease = run_of(result).id, run_of(result).lease
    code, (asked,) = manage(frozen, "pause", str(run))
    assert (code, asked["asked"], asked["worker"]) == (0, True, frozen.hostname) and "as images" in asked["waits"]
    wait_until(lambda: run_of(result).lease != lease and run_of(result).status == "running")
    (tmp_path / "end").touch()
    assert result.get(timeout=120) == [0, 1, 1] and note_of(result) == ""
    nobody = "no worker has it now"
    assert manage(frozen, "pause", str(run)) == (0, [{"id": f"run_{run}", "asked": False, "error": nobody}])


def test_images_are_listed_verified_and_deleted(frozen: Worker):
    results = [holds.delay(fresh()), holds.delay(tag := fresh())]
    found = [waiting(result) for result in results]
    runs = [f"run_{each.run_id}" for each in found]
    code, listed = manage(frozen, "list")
    assert code == 0 and {row["run"] for row in listed} >= set(runs)
    assert all(0 < row["size"] < row["imageSize"] for row in listed)
    code, verified = manage(frozen, "verify", *runs)
    assert code == 0 and {row["id"]: row["sound"] for row in verified} == dict.fromkeys(runs, True)
    path = stored(frozen, found[0])
    path.write_bytes(path.read_bytes()[:-100])
    code, verified = manage(frozen, "verify", *runs)
    problems = {row["id"]: row.get("error") for row in verified}
    assert code == 1 and problems[runs[0]] and not problems[runs[1]]
    assert manage(frozen, "delete", *runs) == (0, [{"id": run, "deleted": True} for run in runs])
    assert not path.exists() and not Checkpoint.objects.filter(run__in=[each.run_id for each in found]).exists()
    go(tag)
    assert results[1].get(timeout=120) == HELD and "was deleted by hand" in note_of(results[1])
    assert notes(tag) == ["entered", "entered"]
