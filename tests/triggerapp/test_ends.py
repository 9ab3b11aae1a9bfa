"""The end of a run that concerns nobody else is one short statement; whoever it concerns hears of it all the same."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import fresh, make_run, make_wait
from triggerapp.engine import destinations, runs
from triggerapp.errors import StaleRun
from triggerapp.models import Attempt, Notice, Run, Status, WaitKind, WaitStatus

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def none_was_crowded(monkeypatch):
    monkeypatch.setattr(runs, "_crowded_until", 0.0)


def complete(run: Run) -> int:
    """How many statements it took."""
    with CaptureQueriesContext(connection) as seen:
        runs.complete(run.id, lease=run.lease, result=b"7", result_type="application/json")
    return len(seen)


def test_a_run_that_concerns_nobody_ends_with_one_statement():
    run = make_run(Status.RUNNING)
    assert complete(run) == 1
    assert (fresh(run).status, bytes(fresh(run).result or b"")) == (Status.COMPLETED, b"7")
    assert Attempt.objects.get(run=run.id).outcome == Status.COMPLETED


def test_the_parent_that_waits_is_told():
    parent = make_run(Status.WAITING)
    wait = make_wait(parent, kind=WaitKind.RUNS, remaining=1)
    run = make_run(Status.RUNNING, parent_id=parent.id, parent_wait=wait.id)
    complete(run)
    assert (fresh(run).status, fresh(wait).status) == (Status.COMPLETED, WaitStatus.RESOLVED)


def test_what_the_run_left_open_is_closed():
    run = make_run(Status.RUNNING)
    wait = make_wait(run, kind=WaitKind.TOKEN)
    complete(run)
    assert (fresh(run).status, fresh(wait).status) == (Status.COMPLETED, WaitStatus.CANCELED)


def test_who_wants_to_hear_of_ends_is_noted():
    destinations.create("dev", "ops", "https://hooks.example.com/", wants=["run.completed"])
    run = make_run(Status.RUNNING)
    complete(run)
    assert Notice.objects.get().about == run.id


def test_where_one_end_concerned_others_the_next_one_is_not_tried_alone():
    first, second = (make_run(Status.RUNNING) for _ in range(2))
    for run in (first, second):
        make_wait(run, kind=WaitKind.TOKEN)
    assert [complete(first), complete(second)] == [2, 1]


def test_a_run_that_is_another_workers_does_not_end():
    run = make_run(Status.RUNNING)
    with pytest.raises(StaleRun):
        runs.complete(run.id, lease=run.lease + 1, result=b"7", result_type="application/json")
    assert fresh(run).status == Status.RUNNING
