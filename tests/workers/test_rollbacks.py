"""Rollbacks run newest first, once, if the run fails, and go on where a worker died."""

from __future__ import annotations

import pytest

from tests.inprocess import Killed, durable
from triggerapp.errors import IllegalMove
from triggerapp.models import Status, Step
from workers import AbortRun, rollback, step, wait
from workers.errors import NotInRun
from workers.retry import RetryPolicy


@pytest.fixture(autouse=True)
def once(monkeypatch):
    monkeypatch.setattr("workers.rollbacks.POLICY", RetryPolicy(max_attempts=1))


class Ledger(list[str]):
    """What was done and undone, in order."""

    def do(self, what: str) -> str:
        self.append(what)
        return what

    def undo(self, what: str) -> None:
        self.append(f"undo {what}")


@pytest.fixture
def ledger():
    return Ledger()


def test_they_run_newest_first_and_the_run_fails_with_its_own_error(worker, ledger):
    @durable
    def purchase():
        for what in ("reserve", "charge", "ship"):
            step(ledger.do, what, rollback=ledger.undo)
        raise AbortRun("sold out")

    run = purchase.trigger()
    with pytest.raises(AbortRun, match="sold out"):
        worker.until(run)
    assert ledger == ["reserve", "charge", "ship", "undo ship", "undo charge", "undo reserve"]
    assert Step.objects.filter(undone=True).count() == 3


def test_a_steps_rollback_and_one_of_its_own_by_the_same_function_are_two_also_for_another_worker(worker, ledger):
    died = []

    def note(what):
        ledger.append(what)
        if what == "undo first" and not died:
            died.append(True)
            raise Killed

    @durable
    def purchase():
        step(note, "do", rollback=lambda what: ledger.append(f"undo {what}"))
        rollback(note, "undo first")
        rollback(note, "undo before that")
        raise AbortRun

    run = purchase.trigger()
    worker.work()
    worker.die()
    worker.tick()
    assert run.status == "FAILED"
    assert ledger == ["do", "undo before that", "undo first", "undo first", "undo do"]


def test_a_steps_rollback_gets_the_steps_arguments(worker, ledger):
    seen = []

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=seen.append)
        step(lambda *, row: row, row=4, key="seat", rollback=lambda *, row: seen.append(row))
        raise AbortRun

    with pytest.raises(AbortRun):
        worker.until(purchase.trigger())
    assert seen == [4, "reserve"]


def test_a_rollback_of_its_own_gets_what_it_was_given(worker, ledger):
    @durable
    def purchase():
        charge = step(ledger.do, "charge")
        rollback(ledger.undo, f"{charge} ch_1")
        raise AbortRun

    with pytest.raises(AbortRun):
        worker.until(purchase.trigger())
    assert ledger == ["charge", "undo charge ch_1"]


def test_a_step_that_failed_is_not_rolled_back(worker, ledger):
    def fail():
        raise AbortRun("no")

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        step(fail, rollback=lambda: ledger.undo("fail"))

    with pytest.raises(AbortRun):
        worker.until(purchase.trigger())
    assert ledger == ["reserve", "undo reserve"]


def test_what_the_user_catches_undoes_nothing(worker, ledger):
    def fail():
        raise ValueError

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        try:
            step(fail)
        except ValueError:
            return "kept"

    assert worker.until(purchase.trigger()) == "kept"
    assert ledger == ["reserve"]


def test_an_attempt_that_will_be_followed_by_another_undoes_nothing(worker, ledger):
    tries = []

    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        tries.append(1)
        raise ValueError("no")

    run = purchase.trigger()
    worker.work()
    assert ledger == ["reserve"]
    with pytest.raises(ValueError, match="no"):
        worker.until(run)
    assert (ledger, len(tries)) == (["reserve", "undo reserve"], 2)


def test_they_are_found_again_after_waits(worker, ledger):
    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        wait.sleep(days=1)
        rollback(ledger.undo, "mail")
        wait.sleep(days=1)
        raise AbortRun

    with pytest.raises(AbortRun):
        worker.until(purchase.trigger())
    assert ledger == ["reserve", "undo mail", "undo reserve"]


def deadly(ledger):
    """A rollback under which the worker dies the first time, and what it died of."""
    died = []

    def undo_and_die(what):
        if not died:
            died.append(what)
            raise Killed
        ledger.undo(what)

    return died, undo_and_die


def test_each_runs_once_although_the_worker_dies_in_the_middle(worker, ledger):
    _, undo_and_die = deadly(ledger)

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        step(ledger.do, "charge", rollback=undo_and_die)
        step(ledger.do, "ship", rollback=ledger.undo)
        raise AbortRun("sold out")

    run = purchase.trigger()
    worker.work()
    assert (run.status, ledger[3:]) == ("EXECUTING", ["undo ship"])
    worker.die()
    worker.tick()
    with pytest.raises(AbortRun, match="sold out"):
        run.get(timeout=0)
    assert ledger[3:] == ["undo ship", "undo charge", "undo reserve"]


def test_code_that_goes_on_after_the_failure_does_nothing_new_while_rolling_back(worker, ledger):
    died, undo_and_die = deadly(ledger)

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=undo_and_die)
        if not died:
            raise AbortRun("sold out")
        step(ledger.do, "a step of another path")

    run = purchase.trigger()
    worker.work()
    worker.die()
    worker.tick()
    assert (run.status, ledger) == ("FAILED", ["reserve", "undo reserve"])
    assert run.refresh().error["message"] == "sold out"


def test_one_that_fails_does_not_stop_the_others_and_is_noted(worker, ledger):
    def fail(what):
        raise OSError("the bank is closed")

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        step(ledger.do, "charge", rollback=fail)
        raise AbortRun

    run = purchase.trigger()
    with pytest.raises(AbortRun):
        worker.until(run)
    assert ledger[2:] == ["undo reserve"]
    assert run.refresh().error["rollbacks_failed"] == ["rollback:of:do#2"]


def test_one_that_failed_under_a_worker_that_died_is_told_too(worker, ledger):
    _, undo_and_die = deadly(ledger)

    def fail(what):
        raise ValueError(what)

    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=undo_and_die)
        step(ledger.do, "charge", rollback=fail)
        raise AbortRun

    run = purchase.trigger()
    worker.work()
    worker.die()
    with pytest.raises(AbortRun):
        worker.until(run)
    assert ledger[2:] == ["undo reserve"]
    assert run.refresh().error["rollbacks_failed"] == ["rollback:of:do#2"]


@pytest.mark.parametrize(("last", "undone"), [("cash", ["undo cash"]), (None, [])], ids=["another", "none"])
def test_a_step_that_the_last_attempt_did_not_come_to_is_told_as_not_undone(worker, ledger, last, undone):
    paths = ["card", last]

    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase():
        if path := paths.pop(0):
            step(ledger.do, path, key=path, rollback=ledger.undo)
        raise ValueError("no seat")

    run = purchase.trigger()
    with pytest.raises(ValueError, match="no seat"):
        worker.until(run)
    assert [line for line in ledger if line.startswith("undo")] == undone
    assert run.refresh().error["not_undone"] == ["card"]


def test_a_run_that_was_rolled_back_is_replayed_and_not_retried(worker, ledger):
    @durable
    def purchase():
        step(ledger.do, "reserve", rollback=ledger.undo)
        raise AbortRun

    run = purchase.trigger()
    with pytest.raises(AbortRun):
        worker.until(run)
    with pytest.raises(IllegalMove, match="replay"):
        run.retry()
    assert run.replay().refresh().status == Status.QUEUED


def test_outside_of_a_run_there_is_nothing_to_roll_back(ledger):
    with pytest.raises(NotInRun, match="rollback was called outside a run"):
        rollback(ledger.undo, "x")
    assert step(ledger.do, "reserve", rollback=ledger.undo) == "reserve"
