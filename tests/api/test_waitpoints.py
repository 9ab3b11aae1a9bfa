"""Tokens, events, queues and keys over HTTP."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.factories import make_run, make_waiting
from tests.inprocess import durable
from triggerapp.engine import environments, keys, tokens
from triggerapp.models import AuditEntry, Event, Queue, Run, Status, Wait
from workers import wait

pytestmark = pytest.mark.usefixtures("database")
TOKENS = "/api/v1/waitpoints/tokens"


@durable
def ask(token: str) -> Any:
    return wait.for_token(token)


@durable
def greet(name: str = "you") -> str:
    return name


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def test_a_token_made_over_http_wakes_the_python_that_waits_for_it(api, worker):
    token = api.post(TOKENS, {"timeout": "10m", "tags": ["a"]}).body
    run = ask.trigger(token["id"])
    worker.work()
    assert run.status == "WAITING"
    assert api.get(f"{TOKENS}/{token['id']}").body["status"] == "WAITING"
    assert api.post(f"{TOKENS}/{token['id']}/complete", {"data": {"ok": True}}).body == {"success": True}
    worker.work()
    assert run.get(timeout=60) == {"ok": True}
    shown = api.get(f"{TOKENS}/{token['id']}").body
    assert (shown["status"], json.loads(shown["output"]), shown["tags"]) == ("COMPLETED", {"ok": True}, ["a"])


def test_the_first_value_of_a_token_stays(api):
    token = api.post(TOKENS).body["id"]
    for value in (1, 2):
        assert api.post(f"{TOKENS}/{token}/complete", {"data": value}).body == {"success": True}
    assert api.get(f"{TOKENS}/{token}").body["output"] == "1"
    assert AuditEntry.objects.filter(action="token.complete").count() == 1


def test_a_token_with_a_key_is_one_token(api):
    first, again = (api.post(TOKENS, {"idempotencyKey": "k", "idempotencyKeyTTL": "1h"}).body for _ in range(2))
    assert (first["isCached"], again["isCached"], again["id"]) == (False, True, first["id"])
    listed = api.get(f"{TOKENS}?filter[idempotencyKey]=k").body["data"]
    assert [each["id"] for each in listed] == [first["id"]]


def test_tokens_are_listed_by_status_tag_and_page(api):
    made = [api.post(TOKENS, {"tags": [tag]}).body["id"] for tag in ("a", "b", "b")][::-1]
    api.post(f"{TOKENS}/{made[0]}/complete", {})
    Wait.objects.filter(pk=made[1].removeprefix("waitpoint_")).update(status="timed_out")

    def listed(query: str) -> list[str]:
        return [each["id"] for each in api.get(f"{TOKENS}?{query}").body["data"]]

    assert listed("") == made
    assert listed("filter[status]=COMPLETED") == made[:1]
    assert listed("filter[status]=WAITING,TIMED_OUT") == made[1:]
    assert listed("filter[tags]=b") == made[:2]
    assert listed("filter[createdAt][period]=1h&page[size]=1") == made[:1]
    assert api.get(f"{TOKENS}?filter[status]=OPEN").status == 400
    timed_out = api.get(f"{TOKENS}/{made[1]}").body
    assert timed_out["outputIsError"] is True


def test_a_public_token_completes_its_token_and_no_other(api):
    answer, other = api.post(TOKENS), api.post(TOKENS).body["id"]
    public = Api(answer.headers["x-trigger-jwt"])
    assert public.post(f"{TOKENS}/{other}/complete", {}).status == 404
    assert public.post(f"{TOKENS}/{answer.body['id']}/complete", {"data": 1}).status == 200


def test_tokens_of_another_environment_are_not_there(api):
    other = Api(keys.create("prod", "tests").text)
    token = api.post(TOKENS).body["id"]
    assert other.get(f"{TOKENS}/{token}").status == 404
    assert other.post(f"{TOKENS}/{token}/complete", {"data": 1}).status == 404
    assert other.get(TOKENS).body["data"] == []
    assert tokens.status(Wait.objects.get().id) == "pending"


@pytest.mark.parametrize("data", ["\0", "\ud800", {"$type": "bytes"}])
def test_a_value_that_cannot_be_stored_is_refused(api, data):
    token = api.post(TOKENS).body["id"]
    assert api.post(f"{TOKENS}/{token}/complete", {"data": data}).status == 400


@pytest.mark.parametrize("body", [{"timeout": "soon"}, {"tags": [1]}, {"idempotencyKey": 1}, {"timeout": -1}])
def test_a_token_that_cannot_be_is_refused(api, body):
    assert api.post(TOKENS, body).status == 400
    assert not Wait.objects.exists()


def test_an_event_wakes_the_wait_that_matches_and_shows_it(api):
    waiting = make_waiting("order/paid", {"id": [1]})
    sent = api.post("/api/v1/events", {"name": "order/paid", "payload": {"id": 1}, "id": "evt"}).body
    again = api.post("/api/v1/events", {"name": "order/paid", "payload": {"id": 1}, "id": "evt"}).body
    assert (sent["isCached"], again["isCached"], again["id"]) == (False, True, sent["id"])
    shown = api.get(f"/api/v1/events/{sent['id']}").body
    assert shown["waits"] == [{"id": f"waitpoint_{waiting.id}", "run": f"run_{waiting.run_id}"}]
    assert (shown["name"], shown["payload"], shown["externalId"]) == ("order/paid", {"id": 1}, "evt")


def test_many_events_are_sent_in_one_request(api):
    body = [{"name": "a", "payload": n} for n in range(3)]
    assert len(api.post("/api/v1/events", body).body["data"]) == 3
    assert Event.objects.count() == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        1,
        {"name": ""},
        {"name": "a\0"},
        {"name": "a", "id": 1},
        {"name": "a", "payload": "\0"},
        {"name": "a", "deliverAt": "x"},
    ],
)
def test_an_event_that_cannot_be_is_refused(api, body):
    assert api.post("/api/v1/events", body).status == 400
    assert not Event.objects.exists()


def test_an_event_of_another_environment_is_not_there(api):
    event = api.post("/api/v1/events", {"name": "a"}).body["id"]
    assert Api(keys.create("prod", "tests").text).get(f"/api/v1/events/{event}").status == 404


def test_a_paused_queue_holds_its_runs_until_it_is_resumed(api, worker):
    greet.trigger("a")
    worker.work()
    queue = Queue.objects.get(runs__task=greet.name)
    path = f"/api/v1/queues/queue_{queue.pk}"
    assert api.post(f"{path}/pause", {"type": "id", "action": "pause"}).body["paused"] is True
    held = greet.trigger("b")
    shown = api.get(f"/api/v1/queues/{queue.name}?type=custom").body
    assert (shown["paused"], shown["queued"], shown["running"], shown["id"]) == (True, 1, 0, f"queue_{queue.pk}")
    assert held.status == "QUEUED"
    assert api.post(f"{path}/pause", {"type": "id", "action": "resume"}).body["paused"] is False
    worker.work()
    assert held.status == "COMPLETED"
    actions = AuditEntry.objects.filter(target=queue.name).order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["queue.pause", "queue.resume"]


def test_a_queues_concurrency_is_overridden_and_reset(api):
    make_run(queue="slow")
    path = "/api/v1/queues/slow/concurrency"
    for _ in range(2):
        shown = api.post(f"{path}/override", {"type": "custom", "concurrencyLimit": 3}).body
        assert (shown["concurrencyLimit"], shown["concurrency"]["override"]) == (3, 3)
        assert shown["concurrency"]["overriddenBy"].startswith("key tr_dev_sk_")
        assert shown["concurrency"]["current"] is None, "nothing is limited yet"
    for _ in range(2):
        shown = api.post(f"{path}/reset", {"type": "custom"}).body
        assert (shown["concurrencyLimit"], shown["concurrency"]["overriddenAt"]) == (None, None)
    entries = AuditEntry.objects.filter(target="slow").order_by("pk").values_list("action", "before", "after")
    assert list(entries) == [
        ("queue.override", {"override": None}, {"override": 3}),
        ("queue.reset", {"override": 3}, {"override": None}),
    ]
    for limit in (None, -1, 100_001, 1.5, True, "3"):
        assert api.post(f"{path}/override", {"type": "custom", "concurrencyLimit": limit}).status == 400


def test_what_is_in_a_queue_is_counted_in_its_own_environment_only(api):
    for status in (Status.PENDING, Status.QUEUED, Status.QUEUED, Status.RUNNING, Status.WAITING, Status.COMPLETED):
        make_run(status, queue="shared")
    make_run(Status.RUNNING, queue="shared", environment_id=environments.by_slug("prod"))
    shown = api.get("/api/v1/queues/shared?type=custom").body
    assert (shown["queued"], shown["running"]) == (3, 1)


def test_queues_are_listed_by_name(api):
    make_run(queue="b/c")
    body = api.get("/api/v1/queues?perPage=1000").body
    names = [queue["name"] for queue in body["data"]]
    assert names == sorted(names)
    assert body["pagination"]["count"] == len(names)
    assert api.get("/api/v1/queues/b%252Fc?type=custom").body["name"] == "b/c"
    assert api.get("/api/v1/queues?page=0").status == 400


@pytest.mark.parametrize("path", ["queue_0?type=id", "queue_x?type=id", "none?type=task", "%00?type=custom"])
def test_what_is_no_queue_is_a_404(api, path):
    assert api.get(f"/api/v1/queues/{path}").status == 404


def test_a_freed_key_makes_a_new_run(api, worker):
    first = greet.with_options(idempotency_key="k/1").trigger()
    worker.work()
    path = "/api/v1/idempotencyKeys/k%2F1/reset"
    assert api.post(path, {"taskIdentifier": greet.name}).body == {"id": "k/1"}
    assert greet.with_options(idempotency_key="k/1").trigger().id != first.id
    assert api.post(path, {"taskIdentifier": "other"}).status == 404
    assert api.post(path, {}).status == 400
    assert Run.objects.filter(status=Status.COMPLETED).count() == 1


def test_a_long_timeout_is_the_tokens_deadline(api):
    token = api.post(TOKENS, {"timeout": "2w"}).body["id"]
    row = Wait.objects.get(pk=token.removeprefix("waitpoint_"))
    assert abs(row.expires_at - row.opened_at - timedelta(weeks=2)) < timedelta(minutes=1)
