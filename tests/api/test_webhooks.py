"""Endpoints and destinations made and changed by programs, what came to the ones and went to the others."""

from __future__ import annotations

import json

import pytest

from tests.api.client import client
from tests.api.conftest import Api
from tests.triggerapp import signing
from tests.triggerapp.signing import STANDARD, TEXT
from triggerapp.engine import destinations, notices, webhooks
from triggerapp.models import AuditEntry, Delivery, Destination, Endpoint, Event

pytestmark = pytest.mark.usefixtures("database")

HOOKS = "/api/v1/webhooks"


def deliver(sent: signing.Sent, name: str = "hub") -> int:
    headers = {f"HTTP_{header.upper().replace('-', '_')}": value for header, value in sent.headers.items()}
    return client().generic("POST", f"/hooks/{name}", sent.body, content_type="application/json", **headers).status_code


def deeds() -> list[str]:
    found = AuditEntry.objects.filter(actor__startswith="key ").order_by("id").values_list("action", flat=True)
    return [deed for deed in found if not deed.startswith("key")]


# --- endpoints ------------------------------------------------------------------------------------


def test_an_endpoint_is_made_with_a_secret_that_is_told_once(api: Api):
    made = api.post(f"{HOOKS}/endpoints", {"name": "hub"}).body
    assert (made["name"], made["preset"], made["enabled"], made["tolerance"]) == ("hub", "standard", True, 300)
    assert made["url"].endswith("/hooks/hub")
    assert deliver(signing.standard({"n": 1}, secret=made["secret"])) == 200
    shown = api.get(f"{HOOKS}/endpoints/hub").body
    assert "secret" not in shown
    assert [each["hint"] for each in shown["secrets"]] == [made["secret"][-4:]]
    assert api.get(f"{HOOKS}/endpoints").body == {"data": [shown]}


def test_a_secret_of_the_providers_is_not_told(api: Api):
    answer = api.post(f"{HOOKS}/endpoints", {"name": "hub", "preset": "stripe", "secret": TEXT})
    assert answer.status == 200
    assert TEXT not in json.dumps(answer.body)
    assert deliver(signing.stripe({"id": "evt_1", "type": "a"})) == 200


def test_an_endpoint_is_changed_disabled_rotated_and_deleted(api: Api):
    api.post(f"{HOOKS}/endpoints", {"name": "hub", "secret": STANDARD})
    assert api.put(f"{HOOKS}/endpoints/hub", {"tolerance": "10m"}).body["tolerance"] == 600
    assert api.post(f"{HOOKS}/endpoints/hub/disable").body["enabled"] is False
    assert deliver(signing.standard({"n": 1})) == 410
    assert api.post(f"{HOOKS}/endpoints/hub/enable").body["enabled"] is True
    new = api.post(f"{HOOKS}/endpoints/hub/rotate-secret", {"keep": 0}).body["secret"]
    assert deliver(signing.standard({"n": 1})) == 401
    assert deliver(signing.standard({"n": 1}, secret=new)) == 200
    assert api.delete(f"{HOOKS}/endpoints/hub").body == {"name": "hub"}
    assert (Endpoint.objects.count(), Delivery.objects.count(), Event.objects.count()) == (0, 0, 1)
    assert deeds() == [f"webhook.{deed}" for deed in "create update disable enable rotate remove".split()]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "small letters"),
        ({"name": "Hub"}, "small letters"),
        ({"name": 1}, "must be a text"),
        ({"name": "hub", "preset": "nobody"}, "no preset"),
        ({"name": "hub", "preset": ["github"]}, "must be a text"),
        ({"name": "hub", "preset": "stripe"}, "makes the secret itself"),
        ({"name": "hub", "secret": "short"}, "base64"),
        ({"name": "hub", "options": []}, ""),
        ({"name": "hub", "options": [1]}, "must be an object"),
        ({"name": "hub", "tolerance": "soon"}, "duration"),
        ({"name": "hub", "tolerance": -1}, "tolerance"),
        ({"name": "hub", "owner": "me"}, "no effect"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_with_a_sentence(api: Api, body, says):
    answer = api.post(f"{HOOKS}/endpoints", body)
    assert answer.status == (400 if says else 200), answer.body
    assert says in json.dumps(answer.body)


def test_a_name_that_is_taken_is_refused(api: Api):
    api.post(f"{HOOKS}/endpoints", {"name": "hub"})
    assert "already" in api.post(f"{HOOKS}/endpoints", {"name": "hub"}).body["error"]


# --- deliveries -----------------------------------------------------------------------------------


def test_deliveries_are_listed_with_what_became_of_them(api: Api):
    for name in ("hub", "other"):
        webhooks.create("dev", name, preset="github", secret=TEXT)
    for n in range(3):
        deliver(signing.github({"n": n}))
    deliver(signing.github({"n": 1}, secret="another secret, of another"))
    deliver(signing.github({"n": 1}), "other")
    listed = api.get(f"{HOOKS}/deliveries?page[size]=2")
    assert [row["endpoint"] for row in listed.body["data"]] == ["other", "hub"]
    rest = api.get(f"{HOOKS}/deliveries?page[size]=5&page[after]={listed.body['pagination']['next']}")
    assert [row["verdict"] for row in rest.body["data"]] == ["accepted"] * 3
    assert len(api.get(f"{HOOKS}/deliveries?filter[endpoint]=hub").body["data"]) == 4
    (rejected,) = api.get(f"{HOOKS}/deliveries?filter[verdict]=rejected").body["data"]
    assert (rejected["code"], rejected["event"]) == ("wrong_signature", None)
    assert "must be one of accepted" in api.get(f"{HOOKS}/deliveries?filter[verdict]=odd").body["error"]
    assert "filter[endpoint]" in api.get(f"{HOOKS}/deliveries?filter[type]=a").body["error"]


def test_a_delivery_is_shown_whole_and_made_an_event_once_more(api: Api):
    webhooks.create("dev", "hub", preset="github", secret=TEXT)
    sent = signing.github({"n": 1})
    deliver(sent)
    (row,) = api.get(f"{HOOKS}/deliveries").body["data"]
    shown = api.get(f"{HOOKS}/deliveries/{row['id']}").body
    assert json.loads(shown["body"]) == {"n": 1}
    assert sent.headers["x-hub-signature-256"] not in json.dumps(shown)
    again = api.post(f"{HOOKS}/deliveries/{row['id']}/replay").body["event"]
    assert again != row["event"]
    assert Event.objects.count() == 2
    assert deeds() == ["webhook.replay"]


def test_a_delivery_that_was_rejected_is_not_made_an_event(api: Api):
    webhooks.create("dev", "hub", preset="github", secret=TEXT)
    deliver(signing.github({"n": 1}, secret="another secret, of another"))
    (row,) = api.get(f"{HOOKS}/deliveries").body["data"]
    assert api.post(f"{HOOKS}/deliveries/{row['id']}/replay").status == 400
    assert not Event.objects.exists()


def test_a_secret_cannot_be_kept_for_ages(api: Api):
    api.post(f"{HOOKS}/endpoints", {"name": "hub", "secret": STANDARD})
    answer = api.post(f"{HOOKS}/endpoints/hub/rotate-secret", {"keep": "31d"})
    assert answer.status == 400
    assert "30 days" in answer.body["error"]


# --- destinations and notices ---------------------------------------------------------------------


def test_a_destination_is_made_changed_disabled_rotated_and_deleted(api: Api):
    made = api.post(f"{HOOKS}/destinations", {"name": "ops", "url": "https://ops.example/hook"}).body
    assert made["secret"].startswith("whsec_")
    assert made["wants"] == list(destinations.FAILURES)
    changed = api.put(f"{HOOKS}/destinations/ops", {"wants": ["run.completed"], "tasks": ["shop.pay"]}).body
    assert (changed["wants"], changed["tasks"]) == (["run.completed"], ["shop.pay"])
    assert Destination.objects.get().url == "https://ops.example/hook"
    assert "secret" not in changed
    assert api.post(f"{HOOKS}/destinations/ops/disable").body["enabled"] is False
    assert api.post(f"{HOOKS}/destinations/ops/enable").body["enabled"] is True
    rotated = api.post(f"{HOOKS}/destinations/ops/rotate-secret").body["secret"]
    assert destinations.secret_of(Destination.objects.get()) == rotated != made["secret"]
    assert [each["name"] for each in api.get(f"{HOOKS}/destinations").body["data"]] == ["ops"]
    assert api.delete(f"{HOOKS}/destinations/ops").body == {"name": "ops"}
    assert api.get(f"{HOOKS}/destinations/ops").status == 404
    assert deeds() == [f"destination.{deed}" for deed in "create update disable enable rotate remove".split()]


def test_no_answer_tells_the_address_of_a_destination_which_is_often_a_secret(api: Api):
    place = f"{HOOKS}/destinations"
    made = api.post(place, {"name": "ops", "url": "https://ops.example/services/canary?key=canary"}).body
    changed = api.put(f"{place}/ops", {"url": "https://ops.example/canary"}).body
    answers = [made, changed, api.get(f"{place}/ops").body, *api.get(place).body["data"]]
    answers += [api.post(f"{place}/ops/{verb}").body for verb in ("disable", "enable", "rotate-secret")]
    assert {each["origin"] for each in answers} == {"https://ops.example"}
    assert "canary" not in str(answers)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"name": "ops"}, "url is missing"),
        ({"name": "ops", "url": "ftp://ops.example"}, "https"),
        ({"name": "ops", "url": 1}, "must be a text"),
        ({"name": "ops", "url": "https://ops.example", "wants": ["run.began"]}, "no notice"),
        ({"name": "ops", "url": "https://ops.example", "wants": "run.failed"}, "list of texts"),
        ({"name": "ops", "url": "https://ops.example", "tasks": [1]}, "list of texts"),
    ],
)
def test_a_destination_that_cannot_work_is_refused_with_a_sentence(api: Api, body, says):
    answer = api.post(f"{HOOKS}/destinations", body)
    assert answer.status == 400
    assert says in answer.body["error"]
    assert not Destination.objects.exists()


@pytest.mark.parametrize("scope", ["write:webhooks", "write:deliveries"])
def test_a_key_may_be_let_to_deliver_once_more_and_change_nothing(key_for, scope: str):
    test = notices.send_test(destinations.create("dev", "ops", "https://ops.example/hook").destination)
    key, may_change = key_for(scope), scope == "write:webhooks"
    assert key.post(f"{HOOKS}/notices/notice_{test.pk}/retry").status == 200
    assert key.post(f"{HOOKS}/deliveries/delivery_{test.pk}/replay").status == 404
    assert key.post(f"{HOOKS}/destinations/ops/disable").status == (200 if may_change else 403)


def test_notices_are_listed_and_delivered_once_more(api: Api):
    for name in ("ops", "other"):
        notices.send_test(destinations.create("dev", name, "https://ops.example/hook").destination)
    (row,) = api.get(f"{HOOKS}/notices?filter[destination]=ops").body["data"]
    assert (row["destination"], row["type"], row["deliveredAt"]) == ("ops", "test", None)
    assert api.post(f"{HOOKS}/notices/{row['id']}/retry").body["id"] == row["id"]
    destinations.set_disabled("dev", "ops", disabled=True)
    assert api.post(f"{HOOKS}/notices/{row['id']}/retry").status == 400
    assert deeds() == ["notice.retry"]
