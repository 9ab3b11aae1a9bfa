"""Rollbacks stay on their worker: they do not wait, and a limit or a shutdown does not stop them half way."""

from __future__ import annotations

import pytest

from tests.inprocess import durable
from triggerapp.models import Run
from workers import AbortRun, identity, rollback, step, wait
from workers.errors import RollbackInStep
from workers.retry import RetryPolicy

pytestmark = pytest.mark.usefixtures("database")

done: list[str] = []


def note(what: str) -> None:
    done.append(what)


def test_a_wait_in_a_rollback_is_refused_and_the_run_still_fails_with_its_own_error(worker, monkeypatch):
    monkeypatch.setattr("workers.rollbacks.POLICY", RetryPolicy(max_attempts=1))

    @durable
    def sells() -> None:
        rollback(wait.sleep, 60)
        raise AbortRun("sold out")

    run = sells.trigger()
    with pytest.raises(AbortRun):
        worker.until(run)
    assert run.refresh().status == "failed"
    assert run.refresh().error["rollbacks_failed"] == ["rollback:sleep#1"]


def test_a_shutdown_does_not_stop_a_rollback_half_way(worker, monkeypatch):
    done.clear()
    leaving = [False]
    monkeypatch.setattr(identity, "is_leaving", lambda: leaving[0])

    def undo() -> None:
        leaving[0] = True
        step(note, "first")
        step(note, "second")

    @durable
    def sells() -> None:
        rollback(undo)
        raise AbortRun("sold out")

    run = sells.trigger()
    worker.work()
    assert Run.objects.get(pk=run.id).status == "failed"
    assert done == ["first", "second"]


@pytest.mark.parametrize("register", [lambda: rollback(note, "x"), lambda: step(note, "x", rollback=note)])
def test_one_that_a_step_registers_would_be_forgotten_and_is_refused(worker, register):
    done.clear()

    @durable(retry=RetryPolicy(max_attempts=1))
    def sells() -> None:
        step(register, key="outer")

    with pytest.raises(RollbackInStep, match=r"inside a step.*in the task's own function"):
        worker.until(sells.trigger())
    assert done == []


def test_a_task_called_in_place_is_no_step_and_its_rollbacks_are_the_runs():
    done.clear()

    @durable
    def inner() -> None:
        rollback(note, "undone")

    @durable
    def outer() -> None:
        inner.apply(throw=True)
        raise AbortRun("sold out")

    with pytest.raises(AbortRun):
        outer.apply().get()
    assert done == ["undone"]
