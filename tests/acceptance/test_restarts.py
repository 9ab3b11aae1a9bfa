"""Workers that end, in every way there is: what they had goes on, from its journal, in the next one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError

from tests.acceptance import heard, watch
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.runs import end_leases, make_due, make_untold_long, status
from tests.acceptance.tasks import (
    add,
    auto_retried,
    becomes,
    echo,
    for_event,
    late,
    noted,
    plain_note,
    stays,
    steps_on,
)
from tests.acceptance.trouble import gated, killed, killed_late, plain_dies
from triggerapp.models import Run, Step
from workers import events

Start = Callable[..., AbstractContextManager[Worker]]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_killed_and_started_again_while_runs_wait(worker: Start, pool: str):
    with worker(pool) as mine:
        tags = [fresh() for _ in range(3)]
        waiting = [for_event.delay(tag) for tag in tags]
        sleeping = echo.delay("slept", pause=3600)
        for result in (*waiting, sleeping):
            wait_until(lambda result=result: status(result) == "waiting")
        mine.kill9()
        for tag in tags:
            events.send("go", {"tag": tag, "value": tag})
        make_due(sleeping)
        mine.restart()
        assert [result.get(timeout=120) for result in waiting] == tags
        assert sleeping.get(timeout=120) == "slept"
        assert [notes(tag) for tag in tags] == [["before"]] * 3


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_kill_9_of_a_worker_in_the_middle_of_a_run(worker: Start, pool: str):
    """Its lease ends, and the next worker goes on from the journal: the recorded step does not run again."""
    with worker(pool) as mine:
        result = gated.apply_async((tag := fresh(),), link=plain_note.s(f"{tag}:link"))
        wait_until(lambda: Step.objects.filter(run__task_id=result.id).exists())
        mine.kill9()
        end_leases(mine)
        open_gate(tag)
        mine.restart()
        assert result.get(timeout=120) == tag
        assert notes(tag) == ["before", "through", "after"]
        assert wait_until(lambda: notes(f"{tag}:link")) == [tag]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown_releases_a_run_at_its_next_step(worker: Start, pool: str):
    """Not at the end of the run (50 s away), and the next worker does not wait for a lease to end."""
    with worker(pool) as mine:
        result = steps_on.delay(tag := fresh(), 100, seconds=0.5)
        waiting = stays.delay(other := fresh(), pause=0.5)
        wait_until(lambda: len(notes(tag)) >= 2)
        mine.stop()
        assert len(notes(tag)) < 80 and status(result) == "queued"
        open_gate(tag)
        mine.restart()
        assert result.get(timeout=120) == 100
        assert notes(tag) == list(range(100))
        assert waiting.get(timeout=120) == other
        wait_until(lambda: "success" in heard.of(result.id))  # sent when the result is there already
        assert heard.of(result.id).count("success") == 1 and "retry" not in heard.of(result.id)


@pytest.mark.parametrize("early", [True, False])
def test_a_cold_shutdown_gives_its_runs_away(worker: Start, early: bool):
    """Trap 17: Celery would note RETRY and call `on_retry`; with early acknowledgement the task would be lost."""
    with worker(conf={"task_acks_late": not early}) as mine:
        result = gated.delay(tag := fresh())
        wait_until(lambda: Step.objects.filter(run__task_id=result.id).exists())
        mine.signal(signal.SIGQUIT)
        mine.wait()
        assert result.state != "RETRY"
        open_gate(tag)
        mine.restart()
        assert result.get(timeout=120) == tag
        assert notes(tag) == ["before", "through", "after"]
        assert "retry" not in heard.of(result.id) and "task-retried" not in watch.types(result.id)
        assert Run.objects.get(task_id=result.id).crashes == 0


def test_a_killed_child_with_early_acknowledgement(prefork: Worker):
    """Trap 18: Celery would fail the task with WorkerLostError and call its errbacks."""
    tag = fresh()
    result = killed.apply_async((tag,), link=noted.s(f"{tag}:link"), link_error=plain_note.s(f"{tag}:errback"))
    assert result.get(timeout=120) == "survived"
    assert [word for word in notes(tag) if word != "entered"] == ["first", "second"]
    assert notes(tag).count("entered") == 2
    assert wait_until(lambda: notes(f"{tag}:link")) == ["survived"]
    assert notes(f"{tag}:errback") == [] and "failure" not in heard.of(result.id)
    assert Run.objects.get(task_id=result.id).crashes == 1


def test_a_killed_child_with_acks_late_and_reject_on_worker_lost(prefork: Worker):
    """Trap 16: the broker's redelivery and our rescue meet; one of them runs."""
    result = killed_late.delay(tag := fresh())
    assert result.get(timeout=120) == "survived"
    assert notes(tag).count("entered") == 2 and notes(tag).count("second") == 1


def test_a_killed_child_within_maps(prefork: Worker):
    """A map of a durable task goes on from its journal; a map of a plain one fails as ever in Celery."""
    durable, plain = killed.map([tag := fresh()]).delay(), plain_dies.map([1]).delay()
    assert durable.get(timeout=120) == ["survived"]
    assert [word for word in notes(tag) if word != "entered"] == ["first", "second"]
    with pytest.raises(WorkerLostError):
        plain.get(timeout=120)


def test_late_acknowledgement_everywhere(worker: Start):
    """The drop-in list in short, with `task_acks_late` for all."""
    with worker("prefork", conf={"task_acks_late": True, "task_reject_on_worker_lost": True}):
        results = [echo.delay(1), late.delay(fresh()), auto_retried.delay(fresh()), becomes.delay(add.s(1, 1))]
        assert [result.get(timeout=120) for result in results] == [1, "late", 2, 2]


def test_an_end_that_was_not_told_is_told_by_the_next_worker(worker: Start, tmp_path: Any):
    """Trap 29: killed between the function's return and Celery's callbacks."""
    fail = f"complete.after_commit:kill9@1;once={tmp_path / 'once'}"
    with worker("prefork", TRIGGERAPP_FAIL=fail):
        result = echo.apply_async(("told",), link=plain_note.s(tag := fresh()))
        wait_until((tmp_path / "once").exists)
        make_untold_long(result)
        assert result.get(timeout=120) == "told"
        assert wait_until(lambda: notes(tag)) == ["told"]
        assert "failure" not in heard.of(result.id)
