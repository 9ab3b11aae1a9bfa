"""Which image a run may be restored from, and when it is forgotten."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError

from tests.factories import for_event, fresh, make_event, make_run, make_worker, timer
from tests.triggerapp.commands import said
from triggerapp.engine import checkpoints, rescue, runs, undoing, verbs, wakes
from triggerapp.engine.checkpoints import Made, Taken
from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Resolution, Suspended
from triggerapp.errors import StaleRun
from triggerapp.models import Attempt, Checkpoint, Run, Status
from workers import images

pytestmark = pytest.mark.usefixtures("database")

ERROR = {"type": "builtins:ValueError", "message": "no", "traceback": ""}


def made(sequence: int = 1) -> Made:
    return Made(
        id=uuid4(),
        sequence=sequence,
        host="here",
        pid=4711,
        pipe=17,
        size=200_000,
        image_size=62_000_000,
        took=timedelta(milliseconds=60),
    )


def suspended(image: Made, run: Run | None = None) -> Run:
    run = run or make_run(Status.RUNNING)
    entered, _ = checkpoints.suspend(run.pk, timer(timedelta()), image, lease=run.lease)
    assert isinstance(entered, Suspended)
    return fresh(run)


def claimed(run: Run) -> tuple[Run, Taken | None]:
    """The run woken and claimed once more, and the image that it may come back from."""
    wakes.wake(wakes.expire_due())
    return claim_again(run)


def claim_again(run: Run) -> tuple[Run, Taken | None]:
    run = fresh(run)
    assert isinstance(runs.claim(run.pk, run.lease, make_worker()), Claimed)
    run = fresh(run)
    return run, checkpoints.take(run.pk, lease=run.lease)


def crash(run: Run) -> None:
    assert run.worker is not None
    assert rescue.rescue_lost([run.pk], run.worker) == 1


def test_a_suspension_with_an_image_is_one_commit():
    image = made()
    run = suspended(image)
    row = Checkpoint.objects.get(run=run)
    assert (run.status, row.id, row.wait, row.lease) == (Status.WAITING, image.id, run.waiting_on, run.lease)
    assert checkpoints.is_kept(image.id) and checkpoints.kept() == {image.id}


def test_a_wait_that_is_resolved_already_keeps_no_image():
    run = make_run(Status.RUNNING)
    make_event("paid", {"a": 1})
    entered, replaced = checkpoints.suspend(run.pk, for_event("paid"), made(), lease=run.lease)
    assert isinstance(entered, Resolution) and replaced is None
    assert not Checkpoint.objects.exists() and fresh(run).status == Status.RUNNING


def test_a_stale_lease_leaves_no_image_and_no_wait():
    run = make_run(Status.RUNNING)
    for act in (
        lambda: checkpoints.suspend(run.pk, timer(), made(), lease=run.lease + 1),
        lambda: checkpoints.release(run.pk, made(), lease=run.lease + 1),
    ):
        with pytest.raises(StaleRun):
            act()
    assert not Checkpoint.objects.exists() and fresh(run).status == Status.RUNNING


def test_a_woken_run_takes_its_image_and_the_next_one_replaces_it():
    first, second = made(), made(2)
    run, taken = claimed(suspended(first))
    assert taken is not None and (taken.id, taken.objection) == (first.id, "")
    entered, replaced = checkpoints.suspend(run.pk, timer(key="sleep#2"), second, lease=run.lease)
    assert isinstance(entered, Suspended) and replaced == first.id
    assert checkpoints.kept() == {second.id}


def test_a_crash_leaves_the_image_usable_but_not_for_ever():
    run, taken = claimed(suspended(made()))
    crash(run)
    run, taken = claim_again(run)
    assert taken is not None and taken.fits and taken.objection == ""
    runs.release(run.pk, lease=run.lease)
    run, taken = claim_again(run)
    assert taken is not None and "tried 2 times" in taken.objection


def test_an_attempt_that_failed_makes_the_image_useless():
    run, _ = claimed(suspended(made()))
    runs.retry_later(run.pk, lease=run.lease, error=ERROR, delay=timedelta(), failed_steps=[])
    from triggerapp.engine import queues

    queues.admit()
    _, taken = claim_again(run)
    assert taken is not None and "has failed since" in taken.objection


def test_a_run_that_rolls_back_is_not_restored_to_where_it_goes_on():
    run, _ = claimed(suspended(made()))
    undoing.begin(run.pk, lease=run.lease, error=ERROR, status=Status.FAILED)
    crash(run)
    _, taken = claim_again(run)
    assert taken is not None and "has failed since" in taken.objection


def test_a_run_that_moved_out_is_queued_with_its_image():
    run, image = make_run(Status.RUNNING), made()
    assert checkpoints.release(run.pk, image, lease=run.lease) is None
    assert fresh(run).status == Status.QUEUED
    _, taken = claim_again(run)
    assert taken is not None and (taken.id, taken.wait, taken.objection) == (image.id, None, "")


def test_only_a_running_run_can_be_asked_to_move_and_a_claim_forgets_it():
    run = make_run(Status.RUNNING)
    assert run.worker is not None
    assert checkpoints.ask_to_move(run.pk) and checkpoints.must_move(run.pk, lease=run.lease)
    assert checkpoints.moving_under(run.worker) == [run.pk]
    checkpoints.release(run.pk, made(), lease=run.lease)
    again, _ = claim_again(run)
    assert not checkpoints.must_move(run.pk, lease=again.lease)
    assert not checkpoints.ask_to_move(make_run(Status.WAITING).pk)


def test_images_of_runs_that_are_over_and_old_ones_are_forgotten():
    over, old, live = made(), made(), made()
    canceled, aged, waiting = (suspended(image) for image in (over, old, live))
    verbs.cancel(canceled.pk)
    Checkpoint.objects.filter(run=aged).update(made_at="2020-01-01T00:00:00Z")
    assert set(checkpoints.discard_ended()) == {over.id, old.id}
    assert checkpoints.kept() == {live.id}
    assert checkpoints.discard(waiting.pk) == live.id
    assert checkpoints.discard(waiting.pk) is None


def test_notes_are_lines_of_the_attempt_and_a_stale_lease_writes_none():
    run = make_run(Status.RUNNING)
    for text, lease in (("first", run.lease), ("second", run.lease), ("stale", run.lease + 1)):
        checkpoints.note(run.pk, text, lease=lease)
    assert note_of(run.pk) == "first\nsecond"


def note_of(run: UUID) -> str:
    return Attempt.objects.get(run=run).note


def test_what_a_store_that_does_not_answer_keeps_is_no_image_that_was_not_there(tmp_path, settings):
    (tmp_path / "file").touch()
    settings.TRIGGERAPP = {"CHECKPOINT_STORE": str(tmp_path / "file" / "store")}
    run = suspended(made())
    assert "deleted; what the store has of it stays" in said("checkpoints", "delete", run.pk)
    assert "there is none" in said("checkpoints", "delete", run.pk)


def test_an_image_that_is_deleted_by_hand_is_noted_on_the_attempt(tmp_path, settings):
    settings.TRIGGERAPP = {"CHECKPOINT_STORE": str(tmp_path)}
    run = suspended(made())
    said("checkpoints", "delete", run.pk)
    assert note_of(run.pk) == "its image was deleted by hand: it is entered again from its journal"


def test_a_store_that_does_not_answer_is_swept_another_time_and_said_so(tmp_path, settings, caplog):
    (tmp_path / "file").touch()
    settings.TRIGGERAPP = {"CHECKPOINT_STORE": str(tmp_path / "file" / "store")}
    images.sweep()
    assert "the image store is not swept" in caplog.text


def test_a_store_that_cannot_be_opened_is_told_in_a_sentence(settings):
    settings.TRIGGERAPP = {"CHECKPOINT_STORE": "nothing://bucket"}
    suspended(made())
    with pytest.raises(CommandError):
        said("checkpoints", "verify")
