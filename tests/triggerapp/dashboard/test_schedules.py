"""Schedules on their pages: when they are due next, what they started, on and off."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tests.factories import fresh, make_run
from tests.inprocess import durable
from triggerapp.dashboard import schedules as pages
from triggerapp.engine import environments, schedules
from triggerapp.engine.schedules import Plan
from triggerapp.models import AuditEntry, Firing, Run, Schedule

URL = "/triggers/schedules/"
EVIL = "<script>alert(1)</script>"


@durable
def clean(days: int = 30) -> int:
    return days


def make(cron="30 1 * * *", timezone="America/New_York", **fields):
    plan = Plan(task=clean.name, cron=cron, timezone=timezone, **fields)
    return schedules.create(environments.current(), plan, deduplication_key=str(uuid4()))


def page(client, path=""):
    response = client.get(URL + path)
    assert response.status_code == 200
    return response


def test_the_list_says_when_in_words_and_what_came_of_it(viewer):
    schedule, run = make("0 9 * * *", "UTC"), make_run()
    Firing.objects.create(schedule=schedule, due_at=datetime(2026, 1, 1, 9, tzinfo=UTC), run=run.pk)
    text = page(viewer).content.decode()
    assert "09:00" in text
    assert f"/triggers/runs/{run.pk}/" in text
    assert page(viewer, "?environment=prod").context["rows"] == []


def test_the_next_five_times_are_shown_in_utc_and_as_clocks_there_show_them(viewer, monkeypatch):
    schedule = make("30 2 * * *")
    monkeypatch.setattr(pages, "about_now", lambda: datetime(2026, 3, 7, tzinfo=UTC))
    found = page(viewer, f"{schedule.pk}/").context["upcoming"]
    assert [(f"{moment:%d %H:%M}", local) for moment, local in found] == [
        ("07 07:30", "Sat 2026-03-07 02:30 EST"),
        ("08 07:00", "Sun 2026-03-08 03:00 EDT"),  # there is no 02:30 on that day
        ("09 06:30", "Mon 2026-03-09 02:30 EDT"),
        ("10 06:30", "Tue 2026-03-10 02:30 EDT"),
        ("11 06:30", "Wed 2026-03-11 02:30 EDT"),
    ]


def test_what_could_not_be_started_says_why(viewer):
    schedule = make()
    Firing.objects.create(schedule=schedule, due_at=datetime(2026, 1, 1, tzinfo=UTC), failure=f"no such task {EVIL}")
    for path in ("", f"{schedule.pk}/"):
        text = page(viewer, path).content.decode()
        assert "no such task" in text
        assert EVIL not in text


def test_it_is_turned_off_and_on_by_operators_and_that_is_noted(operator):
    schedule = make()
    operator.post(f"{URL}{schedule.pk}/switch", {"active": "0"})
    assert (fresh(schedule).active, fresh(schedule).next_at) == (False, None)
    assert "nothing is due" in page(operator, f"{schedule.pk}/").content.decode()
    operator.post(f"{URL}{schedule.pk}/switch", {"active": "1"})
    assert fresh(schedule).next_at is not None
    entries = AuditEntry.objects.filter(actor="user operator").order_by("id")
    assert list(entries.values_list("action", flat=True)) == ["schedule.deactivate", "schedule.activate"]


def test_one_is_run_now_without_touching_its_due_times(operator, viewer, worker):
    schedule = make(external_id="eve")
    schedules.set_active(schedule.environment_id, schedule.pk, active=False)
    assert viewer.post(f"{URL}{schedule.pk}/run").status_code == 403
    response = operator.post(f"{URL}{schedule.pk}/run", follow=True)
    run, firing = Run.objects.get(), Firing.objects.get()
    assert response.redirect_chain == [(f"/triggers/runs/{run.pk}/", 302)]
    assert f"/triggers/schedules/{schedule.pk}/" in response.content.decode()
    assert (firing.run, firing.actor) == (run.pk, "user operator")
    assert (fresh(schedule).active, fresh(schedule).next_at, fresh(schedule).last_at) == (False, None, None)
    assert "user operator" in page(viewer, f"{schedule.pk}/").content.decode()
    worker.work()
    assert fresh(run).status == "completed"
    assert AuditEntry.objects.get(action="schedule.run").after == {"run": str(run.pk)}
    listed = viewer.get(f"/triggers/runs/?schedule={schedule.pk}").context["found"].rows
    assert [row.id for row in listed] == [run.pk]


def test_one_whose_task_is_gone_cannot_be_run_now(operator):
    schedule = make()
    Schedule.objects.update(task="no.such")
    assert operator.post(f"{URL}{schedule.pk}/run").status_code == 404
    assert not Run.objects.exists()
    assert not Firing.objects.exists()


def test_one_is_made_on_the_page_and_deleted_by_an_administrator(administrator, operator):
    form = {"environment": "dev", "task": clean.name, "cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}
    environments.current()
    response = operator.post(f"{URL}create", form)
    schedule = Schedule.objects.get()
    assert response.headers["Location"] == f"{URL}{schedule.pk}/"
    assert (schedule.cron, schedule.timezone, schedule.created_by) == (form["cron"], "Europe/Berlin", "user operator")
    assert operator.post(f"{URL}{schedule.pk}/delete").status_code == 403
    assert administrator.post(f"{URL}{schedule.pk}/delete").status_code == 302
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [{"cron": "soon"}, {"cron": "0 0 31 2 *"}, {"timezone": "Mars"}, {"environment": "none"}, {"cron": "\0"}],
)
def test_one_that_cannot_be_is_refused(operator, wrong):
    environments.current()
    form = {"environment": "dev", "task": clean.name, "cron": "0 9 * * *", "timezone": "UTC", **wrong}
    assert operator.post(f"{URL}create", form).status_code == 400
    assert not Schedule.objects.exists()


def test_a_task_that_is_none_cannot_be_scheduled(operator):
    environments.current()
    form = {"environment": "dev", "task": "no.such", "cron": "0 9 * * *"}
    assert operator.post(f"{URL}create", form).status_code == 404
