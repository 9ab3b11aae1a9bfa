"""Rollbacks stay on their worker: they do not wait, and a limit or a shutdown does not stop them half way."""

from __future__ import annotations

import pytest

from tests.inprocess import durable
from triggerapp.models import Run
from workers import AbortRun, identity, rollback, step, wait
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
