"""Runs whose process was killed, by a time limit or for the last time: their rollbacks run elsewhere, and end."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.inprocess import Killed, app, durable, forward, messages
from triggerapp.engine import runs, timeouts
from triggerapp.models import Run, Step
from workers import AbortRun, identity, link, rollback, step, wait
from workers.retry import RetryPolicy

LIMIT = "ran longer than its hard time limit of 2 s"


class Story(list[str]):
    """What was called, in order; what is in `deadly` kills the process each time."""

    def __init__(self) -> None:
        self.deadly: set[str] = set()

    def tell(self, what: str) -> None:
        self.append(what)
        if what in self.deadly:
            raise Killed

    def undo(self, what: str) -> None:
        self.tell(f"undo {what}")


@pytest.fixture
def story():
    return Story()


@pytest.fixture
def purchase(story):
    @durable
    def purchase() -> None:
        step(story.tell, "reserve", rollback=story.undo)
        rollback(story.undo, "note")
        story.tell("compute")
        step(story.tell, "ship", rollback=story.undo)

    return purchase


def strike(worker, run) -> Run:
    """A hard time limit kills the process of the run; whoever is to go on with it does."""
    timeouts.time_out(UUID(run.id), identity.worker(), seconds=2)
    worker.work()
    return Run.objects.get(pk=run.id)


def started(worker, task):
    run = task.trigger()
    worker.work()
    return run


def test_a_run_that_a_time_limit_killed_is_rolled_back_and_no_code_behind_is_called_again(worker, story, purchase):
    story.deadly = {"compute"}
    ended = strike(worker, started(worker, purchase))
    assert story == ["reserve", "compute", "undo note", "undo reserve"]
    assert (ended.status, ended.error["message"], ended.attempt, ended.delivered) == ("timed_out", LIMIT, 1, True)
    assert "status" not in ended.error
    assert Step.objects.get(key="tell#1").undone


def test_one_that_takes_another_way_when_it_is_to_be_rolled_back_names_what_it_left(worker, story):
    ways = ["card", "cash"]
    story.deadly = {"compute"}

    @durable
    def purchase() -> None:
        step(story.tell, way := ways.pop(0), key=way, rollback=story.undo)
        story.tell("compute")

    ended = strike(worker, started(worker, purchase))
    assert story == ["card", "compute"]
    assert (ended.status, ended.error["not_undone"]) == ("timed_out", ["card"])


def test_one_that_was_killed_within_a_step_is_rolled_back_too(worker, story, purchase):
    story.deadly = {"ship"}
    assert strike(worker, started(worker, purchase)).status == "timed_out"
    assert story == ["reserve", "compute", "ship", "undo note", "undo reserve"]


@pytest.mark.parametrize("deadly", ["first", "second"])
def test_one_without_rollbacks_ends_at_once_and_is_not_entered_again(worker, story, deadly):
    @durable
    def purchase() -> None:
        step(story.tell, "first")
        step(story.tell, "second", rollback=story.undo)

    story.deadly = {deadly}
    run = started(worker, purchase)
    timeouts.time_out(UUID(run.id), identity.worker(), seconds=2)
    assert (run.refresh().status, messages()) == ("timed_out", [])


@pytest.mark.parametrize("notes_starts", [False, True])
def test_celery_which_was_told_of_the_kill_is_told_nothing_of_the_rollbacks(worker, story, notes_starts):
    @durable(track_started=notes_starts)
    def purchase() -> None:
        step(story.tell, "reserve", rollback=story.undo)
        story.tell("compute")

    story.deadly = {"compute"}
    run = started(worker, purchase)
    app.backend.mark_as_failure(run.task_id, TimeoutError("told"))
    strike(worker, run)
    result = purchase.AsyncResult(run.task_id)
    assert result.state == "FAILURE"
    assert ("told" in str(result.result)) is not notes_starts
    assert worker.ticker.reports._open == []


@pytest.mark.parametrize("notes_starts", [False, True])
def test_what_hinders_the_rollbacks_is_told_to_people_and_not_to_celery(
    worker, story, notes_starts, monkeypatch, caplog
):
    @durable(track_started=notes_starts)
    def purchase() -> None:
        step(story.tell, "reserve", rollback=story.undo)
        story.tell("compute")

    def fail(*args: object, **how: object) -> None:
        raise OSError("no space left")

    story.deadly = {"compute"}
    run = started(worker, purchase)
    app.backend.mark_as_failure(run.task_id, TimeoutError(LIMIT))
    monkeypatch.setattr(runs, "fail", fail)
    assert strike(worker, run).status == "running"
    result = purchase.AsyncResult(run.task_id)
    assert result.state == "FAILURE" and LIMIT in str(result.result)
    assert "no space left" in caplog.text and f"run {run.id} was left where it stood" in caplog.text


def test_a_rollback_that_an_attempt_did_not_come_to_is_not_waited_for(worker, story):
    @durable(retry=RetryPolicy(max_attempts=2))
    def purchase() -> None:
        rollback(story.undo, "first")
        if "second attempt" not in story:
            rollback(story.undo, "second")
            story.append("second attempt")
            raise ValueError("busy")
        story.tell("compute")

    story.deadly = {"compute"}
    run = started(worker, purchase)
    forward(seconds=120)
    worker.beat()
    worker.tick()
    assert strike(worker, run).status == "timed_out"
    assert story == ["second attempt", "compute", "undo first"]


def test_what_the_function_raises_on_its_way_to_the_rollbacks_is_no_reason_to_try_again(worker, story):
    @durable(retry=RetryPolicy(max_attempts=5))
    def purchase() -> None:
        step(story.tell, "reserve", rollback=story.undo)
        if story.count("compute"):
            raise ValueError("second time")
        rollback(story.undo, "note")
        story.tell("compute")

    story.deadly = {"compute"}
    ended = strike(worker, started(worker, purchase))
    assert (ended.status, ended.error["message"]) == ("timed_out", LIMIT)
    assert story == ["reserve", "compute", "undo reserve"]


def test_a_rollback_that_is_killed_is_begun_again_so_often_and_then_the_run_ends(worker, story, purchase):
    story.deadly = {"compute", "undo reserve"}
    run = started(worker, purchase)
    ends = [strike(worker, run) for _ in range(3)]
    assert [(end.status, end.crashes) for end in ends] == [("running", 1), ("running", 2), ("timed_out", 2)]
    assert ends[-1].error["message"] == f"{LIMIT} (and its rollbacks were killed by a time limit)"
    assert story == ["reserve", "compute", "undo note", "undo reserve", "undo reserve"]


def test_a_failing_run_that_is_killed_while_it_rolls_back_goes_on_and_keeps_its_own_error(worker, story):
    @durable
    def purchase() -> None:
        step(story.tell, "reserve", rollback=story.undo)
        raise AbortRun("sold out")

    story.deadly = {"undo reserve"}
    run = started(worker, purchase)
    story.deadly.clear()
    ended = strike(worker, run)
    assert (ended.status, ended.error["message"], ended.delivered) == ("failed", "sold out", True)
    assert story == ["reserve", "undo reserve", "undo reserve"]


def test_a_run_that_was_told_and_is_canceled_is_not_told_again(worker, story, purchase):
    story.deadly = {"compute", "undo note"}
    run = started(worker, purchase)
    strike(worker, run)
    run.cancel()
    assert (run.refresh().status, purchase.AsyncResult(run.task_id).state) == ("canceled", "PENDING")


# --- the worker's main process --------------------------------------------------------------------


@pytest.mark.parametrize(("mark", "state"), [({}, "FAILURE"), ({"told": True}, "PENDING")])
def test_a_second_kill_is_not_told_to_celery(worker, story, purchase, mark, state):
    run = purchase.trigger()
    (message,) = messages()
    message.headers["triggerapp"].update(mark)
    request = purchase.Request(message, app=app, task=purchase, hostname="here", on_ack=lambda *_: None)
    request.on_timeout(False, 2)
    assert purchase.AsyncResult(run.task_id).state == state
    assert [report["what"] for report in worker.ticker.reports._open] == ["timed_out"]


def test_the_message_of_a_run_that_was_told_says_so(worker, story, purchase):
    story.deadly = {"compute"}
    run = started(worker, purchase)
    timeouts.time_out(UUID(run.id), identity.worker(), seconds=2)
    assert [message.headers["triggerapp"]["told"] for message in messages()] == [True]


# --- crashes --------------------------------------------------------------------------------------


def crashing(worker, task, *, times: int) -> Run:
    run = started(worker, task)
    for _ in range(times):
        worker.die()
        worker.tick()
    return Run.objects.get(pk=run.id)


def test_a_run_that_has_crashed_for_good_is_rolled_back_before_celery_is_told_once(worker, story, purchase):
    story.deadly = {"compute"}
    ended = crashing(worker, purchase, times=3)
    assert story == ["reserve", *["compute"] * 3, "undo note", "undo reserve"]
    assert (ended.status, ended.crashes, ended.error["type"]) == ("crashed", 3, "triggerapp.errors:WorkerLost")
    assert purchase.AsyncResult(ended.task_id).state == "FAILURE"
    assert ended.delivered


def test_one_whose_rollback_crashes_too_has_crashed(worker, story, purchase):
    story.deadly = {"compute", "undo note"}
    ended = crashing(worker, purchase, times=4)
    assert story == ["reserve", *["compute"] * 3, "undo note"]
    assert (ended.status, ended.crashes) == ("crashed", 4)


def test_a_run_that_waited_before_it_was_killed_finds_its_rollbacks(worker, story):
    @durable
    def purchase() -> None:
        step(story.tell, "reserve", rollback=story.undo)
        wait.sleep(days=1)
        step(story.tell, "compute")

    story.deadly = {"compute"}
    run = started(worker, purchase)
    forward(days=1)
    worker.beat()
    worker.tick()
    assert strike(worker, run).status == "timed_out"
    assert story == ["reserve", "compute", "undo reserve"]


def test_a_run_that_a_cold_shutdown_killed_says_so_and_has_not_crashed(worker, story, purchase):
    story.deadly = {"compute"}
    run = started(worker, purchase)
    story.deadly.clear()
    link.tell("killed", run=run.id, task="any")
    worker.tick()
    assert story == ["reserve", "compute", "compute", "ship"]
    ended = Run.objects.get(pk=run.id)
    assert ended.crashes == 0
    assert "its worker was shut down cold" in ended.attempts.get().note
