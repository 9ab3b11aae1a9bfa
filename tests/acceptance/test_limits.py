"""Limits: of time, which bound a running segment and not the waits; of rates, charged once a run; of life before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

from tests.acceptance import watch
from tests.acceptance.app import app
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import client, fresh, notes
from tests.acceptance.runs import status
from tests.acceptance.tasks import add, for_event, late_for_event, plain_errback, rated, reserves, who, works
from workers import events
from workers.errors import MaxDurationExceeded


def test_time_limits_bound_a_segment_and_not_the_wait(prefork: Worker):
    """Two segments of 3 s and a wait of 1 s, under a limit of 5.5 s; a dump takes its time too."""
    seconds, limit = (6.0, 11.0) if prefork.by_checkpoint else (3.0, 5.5)
    soft = works.apply_async((fresh(), seconds, 1.0), soft_time_limit=limit)
    hard = works.apply_async((fresh(), seconds, 1.0), time_limit=limit)
    assert [soft.get(timeout=120), hard.get(timeout=120)] == ["done", "done"]


def test_a_soft_limit_within_the_second_segment_fails_the_run(prefork: Worker):
    # A restore takes its time too, and so does the first segment where it is busy.
    result = works.apply_async((tag := fresh(), 0.0), {"again": 60}, soft_time_limit=5)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=120)
    assert status(result) == "failed" and notes(tag) == ["begin", "end", "begin"]


def test_a_hard_limit_ends_the_run(prefork: Worker):
    """In its first segment as in its second."""
    first = works.apply_async((tag1 := fresh(), 60), time_limit=5)
    second = works.apply_async((tag2 := fresh(), 0.0), {"again": 60}, time_limit=5)
    for result in (first, second):
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=120)
        wait_until(lambda result=result: status(result) == "timed_out")
    assert add.delay(1, 1).get(timeout=120) == 2
    assert [notes(tag1), notes(tag2)] == [["begin"], ["begin", "end", "begin"]]


def test_a_run_that_a_hard_limit_ends_is_rolled_back_and_told_once(prefork: Worker):
    told = [plain_errback.s(heard := fresh())]
    result = reserves.apply_async((tag := fresh(), 60), time_limit=5, link_error=told)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=120)
    wait_until(lambda: status(result) == "timed_out")
    assert add.delay(1, 1).get(timeout=120) == 2  # whatever was told has come by now
    assert notes(tag) == ["reserve", "undo reserve"]
    assert notes(heard) == [[result.id, "TimeLimitExceeded(5,)"]]


@pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
def test_a_pool_of_threads_has_no_time_limits(threads: Worker, limit: str):
    """Celery's own: a thread cannot be interrupted. The docs say so, and what bounds a run there."""
    assert works.apply_async((fresh(), 0.5), **{limit: 0.2}).get(timeout=120) == "done"


def test_max_duration_ends_a_run_at_its_next_step_and_it_is_rolled_back(on: Worker):
    """On all pools alike: where they have hard time limits, these leave it the time to."""
    result = reserves.apply_async((tag := fresh(), 3.5), max_duration=timedelta(seconds=3))
    with pytest.raises(MaxDurationExceeded):
        result.get(timeout=120)
    assert status(result) == "timed_out" and notes(tag) == ["reserve", "undo reserve"]


def test_a_rate_limit_is_charged_once_per_run(on: Worker):
    """Trap 9: at one an hour a charge for its first wake would hold the run for that long."""
    assert rated.delay().get(timeout=120) == "done"
    held = rated.delay()  # and the limit is one
    wait_until(lambda: "task-received" in watch.types(held.id))
    assert add.delay(1, 1).get(timeout=120) == 2
    assert status(held) == "queued"
    held.revoke()


def test_expires_does_not_end_a_run_that_has_started(on: Worker):
    """Trap 5: the message of a wake would be discarded as expired."""
    result = for_event.apply_async((tag := fresh(),), expires=(expires := datetime.now(UTC) + timedelta(seconds=10)))
    wait_until(lambda: status(result) == "waiting")
    wait_until(lambda: datetime.now(UTC) > expires)
    events.send("go", {"tag": tag, "value": "still here"})
    assert result.get(timeout=120) == "still here"


def test_a_run_that_expires_before_it_starts_is_not_started(on: Worker):
    result = who.apply_async((tag := fresh(),), expires=-1)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=120)
    wait_until(lambda: status(result) == "expired")
    assert notes(tag) == []


def test_acks_late_keeps_no_message_unacknowledged_while_it_waits(on: Worker):
    result = late_for_event.delay(tag := fresh())
    wait_until(lambda: status(result) == "waiting")
    with app.connection_for_read() as connection:
        unacked = connection.default_channel.client
        wait_until(lambda: result.id.encode() not in b"".join(unacked.hvals("unacked")))
    assert status(result) == "waiting"
    events.send("go", {"tag": tag, "value": "late"})
    assert result.get(timeout=120) == "late"
    assert notes(tag) == ["before"]
    assert client().ping()
