"""Schedules over HTTP: made, changed and turned off by programs, and refused with a sentence."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.conftest import Api
from tests.inprocess import at_once, durable, forward
from triggerapp.engine import environments, keys, schedules
from triggerapp.engine.schedules import Plan
from triggerapp.models import AuditEntry, Run, Schedule

pytestmark = pytest.mark.usefixtures("database")
SCHEDULES = "/api/v1/schedules"


@durable
def report(payload: dict[str, Any]) -> str:
    return payload["externalId"]


@durable
def two(a: int, b: int) -> None:
    return None


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def body(**fields: Any) -> dict[str, Any]:
    return {"task": report.name, "cron": "0 9 * * MON", "deduplicationKey": "weekly", **fields}


def make(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post(SCHEDULES, body(**fields))
    assert answer.status == 200, answer.body
    return answer.body


def test_a_schedule_says_what_it_starts_and_when(api):
    made = make(api, timezone="Europe/Berlin", externalId="user_1")
    assert made["generator"] == {"type": "CRON", "expression": "0 9 * * MON", "description": "At 09:00 on Monday"}
    assert (made["task"], made["timezone"], made["externalId"], made["active"]) == (
        report.name,
        "Europe/Berlin",
        "user_1",
        True,
    )
    assert made["nextRun"].endswith(("T07:00:00Z", "T08:00:00Z"))
    assert made["environments"] == [{"id": "dev", "type": "DEVELOPMENT"}]
    assert api.get(f"{SCHEDULES}/{made['id']}").body == made


def test_the_same_key_twice_is_one_schedule_changed(api):
    first, second = make(api), make(api, cron="*/5 * * * *")
    assert second["id"] == first["id"]
    assert second["generator"]["expression"] == "*/5 * * * *"
    actions = AuditEntry.objects.filter(action__startswith="schedule").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["schedule.create", "schedule.update"]
    make(api, cron="*/5 * * * *")
    assert AuditEntry.objects.filter(action__startswith="schedule").count() == 2  # nothing was changed


def test_one_key_at_the_same_moment_is_one_schedule():
    here, plan = environments.current(), Plan(task=report.name, cron="0 9 * * *")
    made = at_once(*[lambda: schedules.create(here, plan, deduplication_key="k").pk] * 8)
    assert len(set(made)) == Schedule.objects.count() == 1


def test_an_update_replaces_the_plan_and_keeps_the_key(api):
    made = make(api, externalId="user_1", timezone="Asia/Tokyo")
    changed = api.put(f"{SCHEDULES}/{made['id']}", {"task": report.name, "cron": "30 6 * * *"}).body
    assert (changed["externalId"], changed["timezone"], changed["deduplicationKey"]) == (None, "UTC", "weekly")
    assert changed["nextRun"].endswith("T06:30:00Z")
    entry = AuditEntry.objects.get(action="schedule.update")
    assert (entry.target, entry.before["cron"], entry.after["cron"]) == (made["id"], "0 9 * * MON", "30 6 * * *")


def test_it_is_turned_off_and_on_and_deleted(api):
    one = f"{SCHEDULES}/{make(api)['id']}"
    for _ in range(2):
        off = api.post(f"{one}/deactivate").body
        assert (off["active"], off["nextRun"]) == (False, None)
    on = api.post(f"{one}/activate").body
    assert on["active"] and on["nextRun"]
    assert api.delete(one).body == {"id": on["id"]}
    assert api.get(one).status == 404
    assert not Schedule.objects.exists()
    actions = AuditEntry.objects.filter(action__startswith="schedule").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["schedule.create", "schedule.deactivate", "schedule.activate", "schedule.delete"]


def test_the_list_has_pages_with_their_number(api):
    made = [make(api, deduplicationKey=str(n))["id"] for n in range(5)]
    pages = [api.get(f"{SCHEDULES}?page={n}&perPage=2").body for n in (1, 2, 3)]
    assert [row["id"] for page in pages for row in page["data"]] == made[::-1]
    assert pages[0]["pagination"] == {"currentPage": 1, "totalPages": 3, "count": 5}
    assert api.get(f"{SCHEDULES}?page=0").status == 400


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"cron": "every day"}, 400, "5 fields"),
        ({"cron": "61 * * * *"}, 400, "Bad minute"),
        ({"cron": "0 0 31 2 *"}, 400, "cron"),
        ({"cron": "* * * * * *"}, 400, "5 fields"),
        ({"cron": "* * * * 1L/2"}, 400, "cron"),
        ({"cron": "\0 * * * *"}, 400, "cron"),
        ({"cron": 5}, 400, "cron must be a text"),
        ({"cron": "1," * 300 + "1 * * * *"}, 400, "cron"),
        ({"timezone": "Mars/Olympus"}, 400, "Mars/Olympus"),
        ({"timezone": "../../etc/passwd"}, 400, "timezone"),
        ({"timezone": ["UTC"]}, 400, "timezone"),
        ({"task": "no.such.task"}, 404, "no.such.task"),
        ({"task": None}, 400, "task must be a text"),
        ({"task": two.name}, 422, "b"),
        ({"externalId": {"a": 1}}, 400, "externalId"),
        ({"deduplicationKey": ""}, 400, "deduplicationKey"),
        ({"deduplicationKey": None}, 400, "deduplicationKey"),
        ({"window": "30m"}, 400, "window"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(api, fields, status, words):
    answer = api.post(SCHEDULES, body(**fields))
    assert answer.status == status, answer.body
    assert words in answer.body["error"]
    assert not Schedule.objects.exists()


def test_a_run_names_the_schedule_that_started_it_and_is_found_by_it(api):
    made = make(api, cron="* * * * *", externalId="user_1")
    forward(minutes=2)
    schedules.fire()
    run = Run.objects.get()
    found = api.get(f"/api/v3/runs/run_{run.id}").body["schedule"]
    assert (found["id"], found["externalId"], found["deduplicationKey"]) == (made["id"], "user_1", "weekly")
    assert found["generator"]["expression"] == "* * * * *"
    assert [row["id"] for row in api.get(f"/api/v1/runs?filter[schedule]={made['id']}").body["data"]] == [
        f"run_{run.id}"
    ]
    assert api.get(f"/api/v1/runs?filter[schedule]=sched_{uuid4()}").body["data"] == []


def test_schedules_of_another_environment_are_their_own(api):
    other = Api(keys.create("prod", "elsewhere").text)
    mine, theirs = make(api), make(other)
    assert mine["id"] != theirs["id"]
    assert api.get(f"{SCHEDULES}/{theirs['id']}").status == 404
    assert [row["id"] for row in other.get(SCHEDULES).body["data"]] == [theirs["id"]]
    assert Schedule.objects.filter(environment_id=environments.by_slug("prod")).count() == 1


def test_time_zones_are_listed_without_a_key():
    names = Api(None).get("/api/v1/timezones").body["timezones"]
    assert names[0] == "UTC" and "America/New_York" in names
    assert "UTC" not in Api(None).get("/api/v1/timezones?excludeUtc=true").body["timezones"]
