"""What is mistyped is refused where it would do something else: cancel more, or complete for good."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.factories import make_run, now
from tests.inprocess import durable
from triggerapp.models import BulkAction, Status, Wait, WaitStatus

pytestmark = pytest.mark.usefixtures("database")


@durable
def greet(name: str) -> str:
    return f"hello {name}"


def test_a_bulk_action_whose_filter_is_no_yes_and_no_no_touches_nothing(api):
    run = make_run(Status.WAITING)
    answer = api.post("/api/v1/bulk-actions", {"action": "cancel", "filter": {"isTest": "maybe"}})
    assert answer.status == 400 and "isTest='maybe' must be true or false" in answer.body["error"]
    run.refresh_from_db()
    assert run.status == Status.WAITING and not BulkAction.objects.exists()


def test_a_list_is_not_filtered_by_what_is_no_yes_and_no_no(api):
    answer = api.get("/api/v1/runs?filter[isTest]=maybe")
    assert answer.status == 400 and "filter[isTest]='maybe' must be one of true, false" in answer.body["error"]


def test_a_token_is_not_completed_by_a_mistyped_field(api):
    token = api.post("/api/v1/waitpoints/tokens", {}).body["id"]
    answer = api.post(f"/api/v1/waitpoints/tokens/{token}/complete", {"date": 1})
    assert answer.status == 400 and "there is no field 'date' here" in answer.body["error"]
    assert Wait.objects.get().status == WaitStatus.PENDING


def test_a_token_is_not_made_without_the_timeout_that_was_mistyped(api):
    answer = api.post("/api/v1/waitpoints/tokens", {"timeOut": "1h"})
    assert answer.status == 400 and not Wait.objects.exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"oneTimeUse": "true"}, "oneTimeUse='true' must be true or false"),
        ({"oneTimeUse": 1}, "oneTimeUse=1 must be true or false"),
        ({"oneTimeuse": True}, "there is no field 'oneTimeuse' here"),
        ({"ttl": 0}, "there is no field 'ttl' here"),
        ({"scopes": "read:runs"}, "scopes='read:runs' must be a list of texts"),
    ],
)
def test_a_token_for_one_use_is_not_made_for_any_number_by_a_mistyped_field(asked, says, api):
    answer = api.post("/api/v1/auth/public-tokens", {"scopes": ["read:runs"], **asked})
    assert answer.status == 400 and says in answer.body["error"]


def test_a_run_is_not_triggered_with_an_option_that_is_not_known_be_it_0(api):
    body = {"payload": "Ada", "options": {"retries": 0}}
    answer = api.post(f"/api/v1/tasks/{greet.name}/trigger", body)
    assert answer.status == 400 and "there is no option 'retries' here" in answer.body["error"]
    assert api.post(f"/api/v1/tasks/{greet.name}/trigger", {**body, "options": {"retries": None}}).status == 200


@pytest.mark.parametrize("path", ["/api/v2/tasks/batch", f"/api/v1/tasks/{greet.name}/batch"])
def test_a_batch_is_not_triggered_with_a_field_that_has_no_effect(path, api):
    answer = api.post(path, {"items": [{"task": greet.name, "payload": "Ada"}], "x": 1})
    assert answer.status == 400 and "there is no field 'x' here" in answer.body["error"]


def test_an_item_does_not_name_another_task_than_its_path(api):
    answer = api.post(f"/api/v1/tasks/{greet.name}/batch", {"items": [{"task": "other", "payload": "Ada"}]})
    assert answer.status == 400 and answer.body["error"].startswith("items[0]: the task is ")


def test_a_run_is_not_canceled_with_a_field_that_has_no_effect(api):
    run = make_run(Status.WAITING)
    answer = api.post(f"/api/v2/runs/run_{run.id}/cancel", {"x": 1})
    assert answer.status == 400 and "there is no field 'x' here" in answer.body["error"]
    run.refresh_from_db()
    assert run.status == Status.WAITING


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("v3/batches", {}, "runCount is missing"),
        ("v1/waitpoints/tokens", {"timeout": -1}, "timeout=-1s is negative"),
        (f"v1/tasks/{greet.name}/trigger", {"payload": "Ada", "options": {"metadata": "m"}}, "must be an object"),
        (f"v1/tasks/{greet.name}/trigger", {"payload": "Ada", "options": {"delay": -5}}, "delay=-5s is negative"),
        ("v1/webhooks/destinations", {"name": "o3"}, "the url is missing"),
        ("v1/webhooks/destinations", {"name": "o3", "url": "https://10.0.0.1/"}, "a private or special address"),
        ("v1/webhooks/destinations", {"name": "o3", "url": "https://0x7f.1/"}, "a private or special address"),
        ("v1/events", {"name": "paid", "payload": "\ud800"}, "half a surrogate pair"),
    ],
)
def test_a_refusal_says_what_was_wrong_in_words_of_json(path, body, says, api):
    answer = api.post(f"/api/{path}", body)
    assert answer.status == 400 and says in answer.body["error"]
    assert "None" not in answer.body["error"] and "; or a moment" not in answer.body["error"]


def test_counting_up_what_is_no_number_loses_nothing(api):
    run = make_run(metadata={"log": [1, 2]})
    operations = [{"type": "increment", "key": "log", "value": 1}]
    answer = api.put(f"/api/v1/runs/run_{run.id}/metadata", {"operations": operations})
    assert answer.status == 400 and "'log' holds [1, 2], which is no number" in answer.body["error"]
    run.refresh_from_db()
    assert run.metadata == {"log": [1, 2]}


def test_a_run_is_not_rescheduled_with_a_field_that_has_no_effect(api):
    run = make_run(Status.PENDING, due_at=now() + timedelta(hours=1))
    answer = api.post(f"/api/v1/runs/run_{run.id}/reschedule", {"delay": "20m", "z": 1})
    assert answer.status == 400 and "there is no field 'z' here" in answer.body["error"]
