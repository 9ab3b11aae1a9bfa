"""Retention: what goes by its age, with all that belongs to it, and what stays however old it is."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest

from tests.factories import make_event, make_run, make_step, make_wait, make_worker
from tests.inprocess import forward
from triggerapp import conf
from triggerapp.clock import now
from triggerapp.engine import retention
from triggerapp.models import Attempt, Event, Run, Status, Step, Wait, Worker

pytestmark = pytest.mark.usefixtures("database")


def test_ended_runs_go_after_their_retention_with_all_that_belongs_to_them():
    run = make_run(Status.COMPLETED)
    make_step(run, "charge#1")
    make_wait(run, status="resolved")
    assert retention.prune_runs() == 0
    forward(days=31)
    assert retention.prune_runs() == 1
    assert not any(model.objects.exists() for model in (Run, Step, Wait, Attempt))


def test_live_runs_stay_however_old_and_so_do_ends_nobody_told():
    make_run(Status.WAITING)
    make_run(Status.COMPLETED, delivered=False)
    forward(days=400)
    assert retention.prune_runs() == 0
    assert Run.objects.count() == 2


def test_events_tokens_and_workers_go_too():
    make_event("old", age=timedelta(days=8))
    kept = make_event("new", age=timedelta(days=6))
    make_wait(None, "token", status="resolved", resolved_at=now() - timedelta(days=31), key="")
    make_worker()
    Worker.objects.update(expires_at=now() - timedelta(days=2))
    assert {name for name, kind in retention.KINDS.items() if kind.prune(10)} == {"events", "tokens", "workers"}
    assert Event.objects.get() == kept
    assert not Wait.objects.exists()
    assert not Worker.objects.exists()


def test_pruning_takes_so_many_at_a_time():
    for _ in range(3):
        make_run(Status.COMPLETED)
    forward(days=31)
    assert [retention.prune_runs(limit=2), retention.prune_runs(limit=2)] == [2, 1]


def test_each_setting_that_keeps_something_is_one():
    known = {each.name for each in fields(conf.Conf)} | {"a day"}
    assert {kind.kept for kind in retention.KINDS.values()} <= known
