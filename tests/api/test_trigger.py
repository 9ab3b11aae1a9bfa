"""A trigger over HTTP is a call of the task: with its arguments, its options, and a refusal where it does not fit."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.api.conftest import Api
from tests.factories import make_run
from tests.inprocess import at_once, durable, messages
from triggerapp.engine import environments, keys
from triggerapp.models import AuditEntry, Run, Status

pytestmark = pytest.mark.usefixtures("database")


@dataclass
class Ticket:
    id: str
    seats: int = 1


class Buyer(BaseModel):
    name: str
    age: int


@durable
def buy(ticket_id: str, user_id: str = "nobody", *, gift: bool = False) -> list[Any]:
    return [ticket_id, user_id, gift]


@durable
def one(value: Any) -> Any:
    return value


@durable
def nothing() -> None:
    return None


@durable
def whatever(*args: Any, **kwargs: Any) -> Any:
    return [args, kwargs]


@durable(bind=True)
def bound(self: Any, ticket: Ticket, buyer: Buyer | None = None) -> None:
    return None


@durable
def modelled(buyer: Buyer) -> None:
    return None


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def trigger(api: Api, task: Any, body: Any, **options: Any):
    sent = {**body, **({"options": options} if options else {})}
    return api.post(f"/api/v1/tasks/{task.name}/trigger", sent)


def arguments() -> tuple[Any, Any]:
    args, kwargs, _ = json.loads(bytes(Run.objects.get().payload))
    return args, kwargs


@pytest.mark.parametrize(
    ("task", "body", "args", "kwargs"),
    [
        (buy, {"payload": {"ticket_id": "t"}}, [], {"ticket_id": "t"}),
        (buy, {"payload": {"args": ["t"], "kwargs": {"gift": True}}}, ["t"], {"gift": True}),
        (buy, {"payload": {"args": ["t", "u"]}}, ["t", "u"], {}),
        (buy, {"payload": "t"}, ["t"], {}),
        (one, {"payload": [1, 2]}, [[1, 2]], {}),
        (one, {"payload": None}, [None], {}),
        (nothing, {}, [], {}),
        (nothing, {"payload": None}, [], {}),
        (buy, {"payload": {"ticket_id": "t"}, "context": {"user": 1}}, [], {"ticket_id": "t"}),
        (whatever, {"payload": {"args": 1, "b": 2}}, [], {"args": 1, "b": 2}),
    ],
)
def test_a_payload_becomes_arguments(api, task, body, args, kwargs):
    answer = trigger(api, task, body)
    assert answer.status == 200, answer.body
    assert answer.body == {"id": f"run_{Run.objects.get().id}", "isCached": False}
    assert arguments() == (args, kwargs)
    assert len(messages()) == 1


@pytest.mark.parametrize(
    ("task", "payload", "param"),
    [
        (buy, {"ticket": "t"}, "ticket"),
        (buy, {}, "ticket_id"),
        (buy, {"args": ["t"], "kwargs": {"ticket_id": "t"}}, "ticket_id"),
        (buy, {"args": ["t", "u", True]}, "args[2]"),
        (nothing, 1, "args[0]"),
        (bound, {"ticket": 1}, "ticket"),
        (bound, {"ticket": {"seats": 1}}, "ticket.id"),
        (bound, {"ticket": {"id": "t", "row": 1}}, "ticket.row"),
        (modelled, {"buyer": {"name": "a", "age": "old"}}, "buyer.age"),
        (modelled, {"buyer": 1}, "buyer"),
    ],
)
def test_a_payload_that_does_not_fit_names_the_argument_and_makes_no_run(api, task, payload, param):
    answer = trigger(api, task, {"payload": payload})
    assert (answer.status, answer.body["code"], answer.body["param"]) == (422, "bad_argument", param)
    why = answer.body["error"].rpartition("payload: ")[2]
    assert re.search(rf"(^|\W){re.escape(param.rpartition('.')[2])}(\W|$)", why), why
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("task", "payload"),
    [
        (buy, {"ticket_id": 7, "gift": "yes"}),
        (bound, {"ticket": {"id": 7, "seats": "many"}}),
        (bound, {"ticket": {"id": "t"}, "buyer": {"name": "a", "age": "old"}}),
    ],
    ids=["a plain type", "the type of a dataclass's field", "a model that may be None"],
)
def test_what_else_an_annotation_says_is_not_checked_and_the_function_gets_the_payload_as_it_is(api, task, payload):
    assert trigger(api, task, {"payload": payload}).status == 200
    assert arguments() == ([], payload)


def test_an_argument_beside_the_payload_is_refused_by_name(api):
    for body in (
        {"ticket_id": "t"},
        {"ticket_id": None, "payload": {}},
        {"payload": {}, "options": {}, "ticket_id": 0},
    ):
        answer = trigger(api, buy, body)
        assert (answer.status, answer.body["code"]) == (400, "bad_input")
        assert 'did you mean {"payload": {"ticket_id": ...}}?' in answer.body["error"]
    assert not Run.objects.exists()


def test_a_task_that_nobody_has_is_a_404(api):
    answer = api.post("/api/v1/tasks/shop.none/trigger", {})
    assert (answer.status, answer.body["code"]) == (404, "not_found")


def test_the_payloads_of_the_sdk_are_read(api):
    document = {
        "json": {"ticket_id": "1970-01-01T00:00:01.000Z", "user_id": "12", "gift": [["a", 1]]},
        "meta": {"values": {"ticket_id": ["Date"], "user_id": ["bigint"], "gift": ["map"]}},
    }
    trigger(api, buy, {"payload": json.dumps(document)}, payloadType="application/super+json")
    _, kwargs = arguments()
    assert kwargs["user_id"] == 12
    assert kwargs["gift"] == {"a": 1}
    assert "1970-01-01T00:00:01" in json.dumps(kwargs["ticket_id"])


@pytest.mark.parametrize(
    "payload",
    [
        "{",
        "{}",
        '{"json": 1, "meta": {"values": ["regex?"]}}',
        '{"json": {"a": 1}, "meta": {"values": {"b": ["Date"]}}}',
        '{"json": {"a": "x"}, "meta": {"values": {"a": ["Date"]}}}',
        '{"json": {"a": 1}, "meta": {"values": {"a": []}}}',
        '{"json": 1, "meta": {"referentialEqualities": {"a": ["b"]}}}',
        "[" * 100_000,
    ],
)
def test_superjson_that_is_none_is_refused(api, payload):
    answer = trigger(api, one, {"payload": payload}, payloadType="application/super+json")
    assert (answer.status, answer.body["code"]) == (400, "bad_input")
    assert not Run.objects.exists()


def test_options_are_the_options_of_the_task(api):
    answer = trigger(
        api,
        one,
        {"payload": 1},
        delay="1h",
        ttl="2h",
        tags=["a", "b"],
        metadata={"k": 1},
        maxDuration=60,
        maxAttempts=2,
        priority=10,
        concurrencyKey=7,
        idempotencyKey="key",
        idempotencyKeyTTL="1d",
        queue={"name": "slow"},
    )
    run = Run.objects.select_related("queue").get()
    assert answer.status == 200
    assert run.public_status == "DELAYED"
    assert abs(run.due_at - run.created_at - timedelta(hours=1)) < timedelta(seconds=10)
    assert run.expires_at is not None
    assert (run.tags, run.metadata, run.max_attempts, run.priority) == (["a", "b"], {"k": 1}, 2, 10)
    assert (run.max_duration, run.concurrency_key, run.queue.name) == (timedelta(minutes=1), "7", "slow")
    assert abs(run.idempotency_expires_at - run.created_at - timedelta(days=1)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "soon"},
        {"delay": "2020-01-01T00:00:00"},
        {"ttl": -1},
        {"maxAttempts": 0},
        {"maxAttempts": "3"},
        {"tags": ["x"] * 11},
        {"tags": [""]},
        {"metadata": [1]},
        {"metadata": {"a": "\0"}},
        {"idempotencyKey": "x" * 2049},
        {"idempotencyKey": 5},
        {"priority": "high"},
        {"priority": 1e9},
        {"queue": "slow"},
        {"queue": {"name": ""}},
        {"queue": {"name": "a\0"}},
        {"debounce": {"key": "a", "delay": "1s"}},
        {"lockToVersion": "20240101.1"},
        {"resumeParentOnCompletion": True},
        {"dealy": "1h"},
        {"payloadType": "application/xml"},
        {"concurrencyKey": ["a"]},
        {"idempotencyKeyTTL": "0s", "idempotencyKey": "a"},
    ],
)
def test_options_that_cannot_be_are_refused_and_make_no_run(api, options):
    answer = trigger(api, one, {"payload": 1}, **options)
    assert answer.status in (400, 422), answer.body
    assert len(answer.body["error"]) > 10
    assert not Run.objects.exists()


def test_what_an_sdk_sends_by_itself_is_passed_over(api):
    assert (
        trigger(api, one, {"payload": 1}, externalDeploymentId="sha", payloadSize=1, test=False, ttl=None).status == 200
    )


def test_a_key_finds_its_run_again(api):
    first = trigger(api, one, {"payload": 1}, idempotencyKey="k").body
    second = trigger(api, one, {"payload": 2}, idempotencyKey="k").body
    assert second == {"id": first["id"], "isCached": True}
    assert Run.objects.count() == 1
    assert AuditEntry.objects.filter(action="task.trigger").count() == 1


def test_many_triggers_at_once_with_one_key_are_one_run(api):
    answers = at_once(*[lambda: trigger(api, one, {"payload": 1}, idempotencyKey="k")] * 50)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert [answer.body["isCached"] for answer in answers].count(False) == 1


def test_a_run_of_another_environment_is_left_to_its_ticker():
    api = Api(keys.create("prod", "tests").text)
    answer = trigger(api, one, {"payload": 1})
    run = Run.objects.get()
    assert answer.status == 200
    assert run.environment_id == environments.by_slug("prod")
    assert (run.status, run.public_status, messages()) == (Status.PENDING, "QUEUED", [])


def test_a_public_token_may_trigger_its_task_once_and_no_other(api):
    body = {"scopes": [f"trigger:tasks:{one.name}"], "oneTimeUse": True}
    token = Api(api.post("/api/v1/auth/public-tokens", body).body["token"])
    assert [trigger(token, one, {"payload": 1}).status for _ in range(2)] == [200, 401]
    token = Api(api.post("/api/v1/auth/public-tokens", {**body, "oneTimeUse": False}).body["token"])
    assert trigger(token, buy, {"payload": "t"}).status == 404
    assert trigger(token, one, {"payload": 1}).status == 200


def test_the_answer_has_a_token_for_this_run_only(api):
    answer = trigger(api, one, {"payload": 1})
    public = Api(answer.headers["x-trigger-jwt"])
    assert public.get(f"/api/v3/runs/{answer.body['id']}").status == 200
    assert public.get(f"/api/v3/runs/run_{make_run().id}").status == 404
    assert public.post(f"/api/v2/runs/{answer.body['id']}/cancel").status == 403
    assert public.get("/api/v1/runs").status == 403


def test_it_runs_and_its_output_is_read_back(api, worker):
    run = trigger(api, buy, {"payload": {"ticket_id": "t", "gift": True}}).body["id"]
    worker.work()
    assert api.get(f"/api/v3/runs/{run}").body["output"] == ["t", "nobody", True]
    assert json.loads(api.get(f"/api/v1/runs/{run}/result").body["output"]) == ["t", "nobody", True]
    assert api.get(f"/api/v3/runs/{run}").body["payload"] == {"ticket_id": "t", "gift": True}


def test_a_replay_takes_the_same_payload_or_another_one(api, worker):
    run = trigger(api, buy, {"payload": {"ticket_id": "t"}}, tags=["a"]).body["id"]
    worker.work()
    again = api.post(f"/api/v1/runs/{run}/replay").body["id"]
    other = api.post(f"/api/v1/runs/{run}/replay", {"payload": {"ticket_id": "u"}, "tags": "b", "delay": "1h"}).body[
        "id"
    ]
    worker.work()
    assert api.get(f"/api/v3/runs/{again}").body["output"] == ["t", "nobody", False]
    shown = api.get(f"/api/v3/runs/{other}").body
    assert (shown["status"], shown["tags"], shown["payload"]) == ("DELAYED", ["b"], {"ticket_id": "u"})
    refused = api.post(f"/api/v1/runs/{run}/replay", {"payload": {"ticket": "u"}})
    assert (refused.status, refused.body["param"]) == (422, "ticket")
    assert api.post(f"/api/v1/runs/{run}/replay", {"colour": "red"}).status == 400


def test_a_replay_notes_the_registered_version_it_is_for(api):
    run = trigger(api, buy, {"payload": {"ticket_id": "t"}}).body["id"]
    replay = f"/api/v1/runs/{run}/replay"
    assert api.post(replay, {"version": "20261122.1"}).status == 404
    assert api.post(replay, {"version": 1}).status == 400
    api.post("/api/v1/deployments", {"version": "20261122.1"})
    again = api.post(replay, {"version": "20261122.1"}).body["id"]
    assert api.get(f"/api/v3/runs/{again}").body["version"] == "20261122.1"
    assert "version" not in api.get(f"/api/v3/runs/{run}").body


def test_dates_come_back_as_json(api, worker):
    @durable
    def today() -> datetime:
        return datetime(2026, 1, 31, tzinfo=UTC)

    run = trigger(api, today, {}).body["id"]
    worker.work()
    assert api.get(f"/api/v3/runs/{run}").body["output"].startswith("2026-01-31T00:00:00")
