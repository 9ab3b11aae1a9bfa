"""Limits: of time, which bound a running segment and not the waits; of rates, charged once a run; of life before it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

from tests.acceptance.app import app
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import client, fresh, notes
from tests.acceptance.tasks import add, echo, late, rated, who, works
from triggerapp.models import Run
from workers.errors import MaxDurationExceeded


def run_of(result: object) -> Run:
    return Run.objects.get(task_id=result.id)  # type: ignore[attr-defined]


def test_time_limits_bound_a_segment_and_not_the_wait(prefork: Worker):
    """Two segments of 0.8 s and a wait of 1 s, under a limit of 1.5 s; a dump takes its time too."""
    seconds, limit = (6.0, 11.0) if prefork.by_checkpoint else (0.8, 1.5)
    soft = works.apply_async((fresh(), seconds, 1.0), soft_time_limit=limit)
    hard = works.apply_async((fresh(), seconds, 1.0), time_limit=limit)
    assert [soft.get(timeout=120), hard.get(timeout=120)] == ["done", "done"]


def test_a_soft_limit_within_the_second_segment_fails_the_run(prefork: Worker):
    limit = 4 if prefork.by_checkpoint else 1  # a restore takes its time too: a limit that passes in it ends the wait
    result = works.apply_async((tag := fresh(), 0.0), {"again": 20}, soft_time_limit=limit)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=120)
    assert run_of(result).status == "failed" and notes(tag) == ["begin", "end", "begin"]


def test_a_hard_limit_ends_the_run(prefork: Worker):
    """In its first segment as in its second."""
    limit = 3 if prefork.by_checkpoint else 1  # a dump takes its time too
    first = works.apply_async((tag1 := fresh(), 20), time_limit=limit)
    second = works.apply_async((tag2 := fresh(), 0.0), {"again": 20}, time_limit=limit)
    for result in (first, second):
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=120)
        wait_until(lambda result=result: run_of(result).status == "timed_out")
    assert add.delay(1, 1).get(timeout=120) == 2
    assert [notes(tag1), notes(tag2)] == [["begin"], ["begin", "end", "begin"]]


@pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
def test_a_pool_of_threads_has_no_time_limits(threads: Worker, limit: str):
    """Celery's own: a thread cannot be interrupted. The docs say so, and what bounds a run there."""
    assert works.apply_async((fresh(), 0.5), **{limit: 0.2}).get(timeout=120) == "done"


def test_max_duration_bounds_a_run_on_threads_at_its_next_step(threads: Worker):
    result = works.apply_async((tag := fresh(), 0.6), max_duration=timedelta(seconds=0.3))
    with pytest.raises(MaxDurationExceeded):
        result.get(timeout=120)
    assert run_of(result).status == "timed_out" and notes(tag) == ["begin", "end"]


def test_a_rate_limit_is_charged_once_per_run(on: Worker):
    """Trap 9: at 20/m a charge for each of the two wakes would take six seconds."""
    results = [rated.delay(fresh()) for _ in range(2)]
    first, second = (result.get(timeout=120) for result in results)
    most = 5 if on.by_checkpoint else 2
    assert first < most and second < most
    started = sorted(run_of(result).started_at for result in results)
    assert (started[1] - started[0]).total_seconds() > 2  # and the limit is one


def test_expires_does_not_end_a_run_that_has_started(on: Worker):
    """Trap 5: the message of a wake would be discarded as expired."""
    assert echo.apply_async(("still here", 2.3), expires=2).get(timeout=120) == "still here"


def test_a_run_that_expires_before_it_starts_is_not_started(on: Worker):
    result = who.apply_async((tag := fresh(),), expires=-1)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=120)
    wait_until(lambda: run_of(result).status == "expired")
    assert notes(tag) == []


def test_acks_late_keeps_no_message_unacknowledged_while_it_waits(on: Worker):
    result = late.delay(tag := fresh(), pause=3)
    wait_until(lambda: run_of(result).status == "waiting")
    with app.connection_for_read() as connection:
        unacked = connection.default_channel.client
        wait_until(lambda: result.id.encode() not in b"".join(unacked.hvals("unacked")), within=30)
    assert run_of(result).status == "waiting"
    assert result.get(timeout=120) == "late"
    assert notes(tag) == ["before", "after"]
    assert client().ping()
