"""Events over HTTP: now or later, called off, and what each has reached."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import Api
from tests.factories import make_waiting
from tests.inprocess import durable, forward
from triggerapp.engine import events, subscriptions
from triggerapp.engine.subscriptions import Wanted
from triggerapp.models import AuditEntry, Event, Run

pytestmark = pytest.mark.usefixtures("database")


@durable
def listener(payload: object) -> None:
    return None


def test_an_event_tells_which_waits_it_reached_and_which_runs_it_started(api: Api):
    subscriptions.renew("tests", [Wanted(task=listener.name, name="paid"), Wanted(task="elsewhere", name="paid")])
    wait = make_waiting("paid")
    event = api.post("/api/v1/events", {"name": "paid", "payload": {"n": 1}}).body["id"]
    subscriptions.start_due()
    found = api.get(f"/api/v1/events/{event}").body
    assert found["waits"] == [{"id": f"waitpoint_{wait.id}", "run": f"run_{wait.run_id}"}]
    run = Run.objects.get(task=listener.name)
    assert found["runs"] == [{"task": "elsewhere"}, {"task": listener.name, "id": f"run_{run.id}"}]
    assert (found["status"], found["payload"]) == ("DELIVERED", {"n": 1})


@pytest.mark.parametrize(
    "when", [{"deliverAfter": "1h"}, {"deliverAfter": 3600}, {"deliverAt": "2099-01-31T12:00:00Z"}]
)
def test_an_event_can_be_delivered_later_and_called_off(api: Api, when):
    event = api.post("/api/v1/events", {"name": "paid", **when}).body["id"]
    found = api.get(f"/api/v1/events/{event}").body
    assert (found["status"], "deliverAt" in found) == ("SCHEDULED", True)
    assert api.post(f"/api/v1/events/{event}/cancel").body["status"] == "CANCELED"
    assert api.post(f"/api/v1/events/{event}/cancel").status == 200
    forward(days=40_000)
    assert events.deliver_due() == 0
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions[-2:] == ["event.send", "event.cancel"]


def test_what_was_delivered_cannot_be_called_off(api: Api):
    event = api.post("/api/v1/events", {"name": "paid"}).body["id"]
    answer = api.post(f"/api/v1/events/{event}/cancel")
    assert (answer.status, answer.body["code"]) == (422, "illegal_move")


def test_the_same_id_is_one_event_now_or_later(api: Api):
    first = api.post("/api/v1/events", {"name": "paid", "id": "o-1", "deliverAfter": "1h"}).body
    second = api.post("/api/v1/events", {"name": "paid", "id": "o-1"}).body
    assert second == {"id": first["id"], "isCached": True}


@pytest.mark.parametrize(
    "when",
    [
        {"deliverAt": "tomorrow"},
        {"deliverAt": "2030-01-01T00:00:00"},
        {"deliverAt": {}},
        {"deliverAt": "2030-01-01T00:00:00Z", "deliverAfter": 3},
        {"deliverAfter": -1},
        {"deliverAfter": "1 hour"},
        {"deliverAfter": 10**30},
        {"deliverAfter": True},
        {"deliverAfter": []},
        {"deliverLater": 1},
    ],
)
def test_a_time_that_cannot_be_is_refused_and_nothing_is_sent(api: Api, when):
    answer = api.post("/api/v1/events", [{"name": "first"}, {"name": "paid", **when}])
    assert (answer.status, answer.body["code"]) == (400, "bad_input"), json.dumps(answer.body)
    assert answer.body["error"].startswith("events[1]: ")
    assert not Event.objects.exists()
