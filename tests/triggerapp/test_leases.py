"""One writer: every write of a worker carries the run's lease; a stale one changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.factories import (
    everything,
    for_event,
    fresh,
    make_run,
    make_step,
    make_trigger,
    make_wait,
    make_worker,
    timer,
)
from triggerapp.engine import runs, steps, undoing, verbs, waits
from triggerapp.engine.runs import Claimed, Dropped, Ended, Unknown
from triggerapp.engine.waits import Opening
from triggerapp.errors import StaleRun
from triggerapp.models import Attempt, Run, Status, Step, WaitKind

pytestmark = pytest.mark.usefixtures("database")

ERROR = {"type": "builtins:ValueError", "message": "no", "traceback": ""}
Write = Callable[[UUID, int], object]


def record(run: UUID, lease: int, *, key: str = "charge#1") -> None:
    steps.record(run, key, lease=lease, digest="d", value="1", error=None, took=timedelta())


def of_runs(run: UUID, lease: int) -> object:
    return waits.suspend(run, Opening(key="runs#1", kind=WaitKind.RUNS, children=[make_trigger()]), lease=lease)


def of_token(run: UUID, lease: int) -> object:
    return waits.suspend(run, Opening(key="for_token#1", kind=WaitKind.TOKEN, token=TOKEN), lease=lease)


TOKEN = uuid4()
WRITES: dict[str, Write] = {
    "records no step": record,
    "completes nothing": lambda run, lease: runs.complete(run, lease=lease, result=b"1", result_type="json"),
    "fails nothing": lambda run, lease: runs.fail(run, lease=lease, error=ERROR),
    "times nothing out": lambda run, lease: runs.fail(run, lease=lease, error=ERROR, status=Status.TIMED_OUT),
    "retries nothing": lambda run, lease: runs.retry_later(
        run, lease=lease, error=ERROR, delay=timedelta(), failed_steps=["charge#0"]
    ),
    "begins no rollback": lambda run, lease: undoing.begin(run, lease=lease, error=ERROR, status=Status.FAILED),
    "counts no rollback": lambda run, lease: undoing.count(run, 1, lease=lease),
    "sets no metadata": lambda run, lease: runs.set_metadata(run, {"a": 1}, lease=lease),
    "opens no timer": lambda run, lease: waits.suspend(run, timer(), lease=lease),
    "opens no event wait": lambda run, lease: waits.suspend(run, for_event("paid"), lease=lease),
    "triggers no awaited child": of_runs,
    "enters no token": of_token,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("lease", [1, 3])
def test_a_worker_whose_lease_has_passed_on(write: Write, lease: int):
    run = make_run(Status.RUNNING, lease=2)
    make_step(run, "charge#0", value=None, error="{}")
    make_wait(None, WaitKind.TOKEN, id=TOKEN, key="")
    before = everything()
    with pytest.raises(StaleRun, match=f"lease {lease}: nothing was written"):
        write(run.id, lease)
    assert everything() == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("status", [Status.CANCELED, Status.COMPLETED, Status.FAILED, Status.QUEUED])
def test_a_worker_whose_run_has_moved_on_under_the_same_lease(write: Write, status: Status):
    run = make_run(status, lease=1)
    make_step(run, "charge#0", value=None, error="{}")
    make_wait(None, WaitKind.TOKEN, id=TOKEN, key="")
    before = everything()
    with pytest.raises(StaleRun):
        write(run.id, 1)
    assert everything() == before


def test_a_stale_worker_marks_no_step_as_undone():
    run = make_run(Status.RUNNING, lease=2)
    step = make_step(run, "reserve#1")
    with pytest.raises(StaleRun):
        steps.mark_undone(run.id, "reserve#1", lease=1)
    assert not fresh(step).undone


def test_a_stale_worker_gives_nothing_back():
    run = make_run(Status.RUNNING, lease=2)
    runs.release(run.id, lease=1)
    assert fresh(run).status == Status.RUNNING


def test_only_the_holder_of_a_lease_is_told_so():
    run = make_run(Status.RUNNING, lease=2)
    assert [runs.holds(run.id, lease) for lease in (1, 2, 3)] == [False, True, False]
    verbs.cancel(run.id)
    assert not runs.holds(run.id, 2)


# --- claims ---------------------------------------------------------------------------------------


def test_a_claim_takes_a_higher_lease_and_opens_the_attempt():
    run, worker = make_run(Status.QUEUED), make_worker()
    claimed = runs.claim(run.id, 0, worker)
    assert isinstance(claimed, Claimed)
    assert (claimed.lease > 0, claimed.attempt, fresh(run).worker) == (True, 1, worker)
    assert Attempt.objects.get(run=run).worker == worker


def test_a_message_that_comes_twice_runs_once():
    run = make_run(Status.QUEUED)
    first, second = runs.claim(run.id, 0, make_worker()), runs.claim(run.id, 0, make_worker())
    assert isinstance(first, Claimed)
    assert second == Dropped(status=Status.RUNNING)
    assert fresh(run).lease == first.lease


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.WAITING, Status.CANCELED])
def test_a_message_for_a_run_that_is_not_queued_is_dropped(status: Status):
    run = make_run(status)
    assert runs.claim(run.id, run.lease, make_worker()) == Dropped(status=status)
    assert fresh(run).status == status


def test_an_old_message_finds_a_newer_lease_and_is_dropped():
    run = make_run(Status.QUEUED, lease=2)
    assert isinstance(runs.claim(run.id, 1, make_worker()), Dropped)
    assert isinstance(runs.claim(run.id, 2, make_worker()), Claimed)


def test_a_message_of_nobody_we_know_is_unknown():
    assert runs.claim(uuid4(), 0, make_worker()) == Unknown()


def test_an_end_that_celery_was_not_told_is_handed_over_with_the_result():
    run = make_run(Status.COMPLETED, result=b"42", result_type="application/json", delivered=False)
    ended = runs.claim(run.id, run.lease, make_worker())
    assert ended == Ended(
        run_id=run.id, status=Status.COMPLETED, result=b"42", result_type="application/json", error=None
    )


def test_a_claim_brings_the_journal_without_what_was_superseded():
    run = make_run(Status.QUEUED, lease=1, started_at=make_run(Status.RUNNING).started_at)
    make_step(run, "charge#1", value=None, error="{}", superseded=True)
    make_step(run, "reserve#1", {"seat": 4})
    wait = make_wait(run, status="resolved", key="sleep#1")
    make_run(parent=run, parent_key="trigger:mail#1")
    claimed = runs.claim(run.id, 1, make_worker())
    assert isinstance(claimed, Claimed)
    assert [step["key"] for step in claimed.steps] == ["reserve#1"]
    assert [row["id"] for row in claimed.waits] == [str(wait.id)]
    assert [child["key"] for child in claimed.children] == ["trigger:mail#1"]


def test_the_lease_grows_over_suspension_rescue_and_retry():
    run = make_run(Status.QUEUED)
    leases = []
    for _ in range(3):
        claimed = runs.claim(run.id, fresh(run).lease, make_worker())
        assert isinstance(claimed, Claimed)
        leases.append(claimed.lease)
        runs.release(run.id, lease=claimed.lease)
    assert 0 < leases[0] < leases[1] < leases[2]


def test_a_claim_that_postgresql_forgot_in_a_crash_has_another_number_than_the_next():
    """It is not waited for until it is on disk, so the run may be claimed twice from the same message."""
    first = runs.claim((run := make_run(Status.QUEUED)).id, 0, make_worker())
    Run.objects.filter(pk=run.id).update(status=Status.QUEUED, lease=0)
    second = runs.claim(run.id, 0, make_worker())
    assert isinstance(first, Claimed) and isinstance(second, Claimed)
    assert not runs.holds(run.id, first.lease) and runs.holds(run.id, second.lease)


# --- steps ----------------------------------------------------------------------------------------


def test_recording_a_step_again_under_the_same_lease_is_safe_and_changes_nothing():
    run = make_run(Status.RUNNING)
    record(run.id, 1)
    before = Step.objects.values().get()
    steps.record(run.id, "charge#1", lease=1, digest="other", value="2", error=None, took=timedelta())
    assert Step.objects.values().get() == before


def test_a_step_that_an_earlier_lease_recorded_is_not_recorded_again():
    run = make_run(Status.RUNNING, lease=2)
    make_step(run, "charge#1", "first", lease=1)
    with pytest.raises(StaleRun):
        record(run.id, 2)
    assert Step.objects.get().value == '"first"'


def test_a_superseded_failure_leaves_room_for_the_next_try():
    run = make_run(Status.RUNNING, lease=2)
    make_step(run, "charge#1", value=None, error="{}", lease=1, superseded=True)
    record(run.id, 2)
    assert Step.objects.get(superseded=False).value == "1"


def test_ending_a_run_takes_the_attempt_with_it():
    run = make_run(Status.RUNNING)
    runs.complete(run.id, lease=1, result=b"1", result_type="application/json")
    assert (Attempt.objects.get().outcome, Attempt.objects.get().finished_at is not None) == ("completed", True)


def test_delivery_is_noted_only_of_runs_that_have_ended():
    over, live = make_run(Status.COMPLETED, delivered=False), make_run(Status.RUNNING)
    runs.mark_delivered([over.id, live.id])
    assert Run.objects.filter(delivered=True).get() == over
