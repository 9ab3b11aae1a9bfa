"""Schedules fire: each due time once, with what Trigger.dev tells a scheduled run, whatever happens around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import signals
from django.db import OperationalError

from tests.factories import fresh
from tests.inprocess import at_once, durable, forward
from triggerapp.clock import now
from triggerapp.engine import cron, environments, schedules, triggers
from triggerapp.engine.schedules import Plan
from triggerapp.errors import BadInput
from triggerapp.models import Firing, Run, Schedule

pytestmark = pytest.mark.usefixtures("database")


@durable
def tell(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name != "upcoming"}


@durable
def upcoming(payload: dict[str, Any]) -> list[bool]:
    return [isinstance(moment, datetime) and moment > payload["timestamp"] for moment in payload["upcoming"]]


@durable
def clean(days: int = 30) -> int:
    return days


def make_schedule(task: Any = tell, expression: str = "* * * * *", *, key: str = "key", **fields: Any) -> Schedule:
    plan = Plan(task=task if isinstance(task, str) else task.name, cron=expression, **fields)
    return schedules.create(environments.current(), plan, deduplication_key=key, actor="ada")


def due(schedule: Schedule) -> datetime:
    """Let the schedule come due; when that was."""
    forward(minutes=1)
    found = fresh(schedule).next_at
    assert found is not None and found <= now()
    return found


def test_a_due_schedule_starts_one_run_with_what_it_is_about(worker):
    schedule = make_schedule(external_id="user_1", timezone="Europe/Berlin")
    at = due(schedule)
    worker.tick()
    run = Run.objects.get()
    output = worker.until(run)
    assert output == {
        "scheduleId": f"sched_{schedule.pk}",
        "type": "IMPERATIVE",
        "timestamp": at,
        "externalId": "user_1",
        "timezone": "Europe/Berlin",
    }
    assert schedules.of_run(run.id) == schedule


def test_the_next_run_is_told_when_the_last_one_was_due(worker):
    schedule = make_schedule()
    due(schedule)
    schedules.fire()
    forward(minutes=1)
    before = fresh(schedule).last_at
    schedules.fire()
    outputs = [worker.until(run)["lastTimestamp"] for run in Run.objects.order_by("id")[1:]]
    assert outputs == [before]


def test_the_run_knows_the_next_five_times(worker):
    due(make_schedule(upcoming))
    schedules.fire()
    assert worker.until(Run.objects.get()) == [True] * 5


def test_a_task_that_needs_no_argument_gets_none(worker):
    due(make_schedule(clean))
    schedules.fire()
    assert worker.until(Run.objects.get()) == 30


def test_what_is_not_due_or_not_active_starts_nothing():
    schedule = make_schedule()
    assert schedules.fire() is False
    schedules.set_active(environments.current(), schedule.pk, active=False)
    forward(hours=1)
    schedules.fire()
    assert not Run.objects.exists()
    schedules.set_active(environments.current(), schedule.pk, active=True)
    schedules.fire()
    assert not Run.objects.exists()  # what was due meanwhile is not made up for


def test_an_outage_is_made_up_for_by_one_run():
    schedule = make_schedule()
    forward(hours=3)
    schedules.fire()
    schedules.fire()
    assert Run.objects.count() == 1
    after = fresh(schedule).next_at
    assert after is not None and now() < after <= now() + timedelta(minutes=1)


def test_many_tickers_at_once_fire_each_due_time_once():
    for n in range(5):
        make_schedule(key=str(n))
    forward(minutes=1)
    at_once(*[schedules.fire] * 6)
    schedules.fire()
    assert Run.objects.count() == Firing.objects.filter(run__isnull=False).count() == 5


def test_a_due_time_that_was_fired_before_starts_nothing_again():
    """As when the database's clock was set back."""
    schedule = make_schedule()
    at = due(schedule)
    schedules.fire()
    Schedule.objects.filter(pk=schedule.pk).update(next_at=at)
    schedules.fire()
    assert Run.objects.count() == 1
    assert fresh(schedule).next_at != at


def test_a_ticker_that_dies_before_its_commit_leaves_the_schedule_due(monkeypatch):
    schedule = make_schedule()
    due(schedule)
    real = triggers.trigger_many

    def die(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(triggers, "trigger_many", die)
    with pytest.raises(OperationalError):
        schedules.fire()
    assert not Run.objects.exists() and not Firing.objects.exists()
    monkeypatch.undo()
    schedules.fire()
    assert Run.objects.count() == 1


def test_one_schedule_that_cannot_start_says_why_and_holds_up_no_other():
    broken, good = make_schedule(key="a"), make_schedule(key="b")
    Schedule.objects.filter(pk=broken.pk).update(task="gone.task")
    forward(minutes=7)
    schedules.fire()
    assert schedules.of_run(Run.objects.get().id) == good
    assert "gone.task" in Firing.objects.get(schedule=broken).failure
    assert fresh(broken).next_at > now()


def test_one_run_that_is_not_accepted_is_told_and_the_others_are(monkeypatch):
    schedules_ = [make_schedule(task, key=str(n)) for n, task in enumerate((tell, clean, tell))]
    forward(minutes=1)
    check = triggers.check

    def refuse(request: triggers.Trigger) -> None:
        if request.task == clean.name:
            raise BadInput("not today")
        check(request)

    monkeypatch.setattr(triggers, "check", refuse)
    schedules.fire()
    outcomes = [(firing.run is not None, firing.failure) for firing in Firing.objects.order_by("schedule_id")]
    assert outcomes == [(True, ""), (False, "not today"), (True, "")]
    assert set(Run.objects.values_list("task", flat=True)) == {tell.name}
    assert all(fresh(schedule).next_at > now() for schedule in schedules_)


def test_a_bug_in_a_listener_to_celerys_signals_holds_up_no_other_schedule():
    due(make_schedule(key="a")), make_schedule(clean, key="b")
    forward(minutes=1)

    def trip(sender: str, **_: Any) -> None:
        if sender == tell.name:
            Run.objects.raw("SELECT no_such_column FROM triggerapp_run")[0]

    signals.before_task_publish.connect(trip)
    try:
        schedules.fire()
    finally:
        signals.before_task_publish.disconnect(trip)
    assert [run.task for run in Run.objects.all()] == [clean.name]
    assert Firing.objects.get(run=None).failure


def test_a_task_that_only_another_worker_knows_is_left_to_it_for_a_while():
    schedule = make_schedule()
    Schedule.objects.filter(pk=schedule.pk).update(task="elsewhere.task")
    at = due(schedule)
    assert schedules.fire() is False
    assert fresh(schedule).next_at == at
    assert not Firing.objects.exists()


def test_schedules_of_another_environment_are_left_to_its_ticker():
    plan = Plan(task=tell.name, cron="* * * * *")
    schedules.create(environments.by_slug("prod"), plan, deduplication_key="key")
    forward(minutes=2)
    schedules.fire()
    assert not Run.objects.exists()


def test_a_change_of_nothing_but_words_skips_no_due_time():
    schedule = make_schedule()
    at = due(schedule)
    make_schedule(external_id="user_2")
    assert fresh(schedule).next_at == at
    make_schedule(expression="*/2 * * * *")
    assert fresh(schedule).next_at > now()


def test_firings_are_kept_as_long_as_runs():
    schedule = make_schedule()
    due(schedule)
    schedules.fire()
    assert schedules.prune() == 0
    forward(days=31)
    assert schedules.prune() == 1


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-07T12:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),  # 02:30 is not there: 03:00
        ("30 1 * * *", "2026-10-31T12:00", ["2026-11-01T05:30", "2026-11-02T06:30"]),  # 01:30 is there twice: once
        ("*/30 * * * *", "2026-11-01T05:20", ["2026-11-01T05:30", "2026-11-01T06:00", "2026-11-01T06:30"]),
        ("30 1 * * *", "2026-11-01T06:15", ["2026-11-02T06:30"]),  # after the first of the two, whenever it is asked
        ("0 0 L * *", "2026-02-01T12:00", ["2026-02-28T05:00", "2026-03-31T04:00"]),
        ("0 0 29 2 *", "2026-03-01T12:00", ["2028-02-29T05:00"]),
    ],
)
def test_local_time_is_kept_when_clocks_change(expression, after, expected):
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = cron.upcoming(expression, "America/New_York", moment, len(expected))
    assert [f"{each:%Y-%m-%dT%H:%M}" for each in found] == expected


ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu", "UTC")
EXPRESSIONS = (
    "30 1 * * *",
    "15,45 1-2 * * *",
    "*/30 * * * *",
    "30 2 * * SUN",
    "0 */2 * * *",
    "59 23 * * *",
    "5 * * * *",
)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_next_time_is_never_in_the_past(expression, zone):
    """Asked every seven minutes in the nights in which clocks change."""
    for night in ("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"):
        start = datetime.fromisoformat(f"{night}T10:00").replace(tzinfo=UTC)
        for minutes in range(0, 24 * 60, 7):
            after = start + timedelta(minutes=minutes, seconds=1)
            first, second = cron.upcoming(expression, zone, after, 2)
            assert after < first < second


def test_a_schedule_of_the_hour_that_comes_twice_does_not_fire_without_end():
    """It is made between the second 01:00 and the second 01:30, when its time of that day is over."""
    after = datetime.fromisoformat("2026-11-01T06:15").replace(tzinfo=UTC)
    due = cron.following("30 1 * * *", "America/New_York", after)
    assert due is not None and due - after > timedelta(hours=23)


def test_an_expression_without_words_for_it_is_described_as_it_is():
    assert cron.describe("0 9 * * *") == "At 09:00 every day"
    assert cron.describe("x") == "x"


@pytest.mark.parametrize("name", ["", "utc ", "localtime", "UTC\0", 5, None])
def test_a_time_zone_must_be_one(name):
    with pytest.raises(BadInput, match="timezone"):
        cron.check("* * * * *", name)
