"""Batches: all runs or none, each index once, a stream that broke off sent again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.inprocess import durable, messages
from triggerapp.clock import now
from triggerapp.engine import batches, keys
from triggerapp.models import Batch, BatchItem, Run

pytestmark = pytest.mark.usefixtures("database")


@durable
def double(n: int) -> int:
    if n < 0:
        raise ValueError("less than nothing")
    return 2 * n


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def items(*numbers: Any) -> list[dict[str, Any]]:
    return [{"index": i, "task": double.name, "payload": {"n": n}} for i, n in enumerate(numbers)]


def announce(api: Api, count: int, **more: Any) -> str:
    answer = api.post("/api/v3/batches", {"runCount": count, **more})
    assert answer.status == 202, answer.body
    return answer.body["id"]


def stream(api: Api, batch: str, found: list[dict[str, Any]]):
    raw = b"".join(json.dumps(item).encode() + b"\n" for item in found)
    return api.post(f"/api/v3/batches/{batch}/items", raw=raw, content_type="application/x-ndjson")


def test_an_announced_batch_is_filled_line_by_line_and_sealed_by_its_last_item(api, worker):
    batch = announce(api, 3)
    assert stream(api, batch, items(1, 2)).body == {
        "id": batch,
        "itemsAccepted": 2,
        "itemsDeduplicated": 0,
        "sealed": False,
        "enqueuedCount": 2,
        "expectedCount": 3,
    }
    assert api.get(f"/api/v2/batches/{batch}").body["status"] == "PENDING"
    whole = stream(api, batch, items(1, 2, 3)).body
    assert (whole["itemsAccepted"], whole["itemsDeduplicated"], whole["sealed"]) == (1, 2, True)
    assert api.get(f"/api/v2/batches/{batch}").body["status"] == "PROCESSING"
    worker.work()
    shown = api.get(f"/api/v2/batches/{batch}").body
    assert (shown["status"], shown["runCount"], len(shown["runs"])) == ("COMPLETED", 3, 3)
    results = api.get(f"/api/v1/batches/{batch}/results").body["items"]
    assert [json.loads(result["output"]) for result in results] == [2, 4, 6]
    assert [result["id"] for result in results] == shown["runs"]
    run = api.get(f"/api/v3/runs/{shown['runs'][0]}").body
    assert (run["batchId"], run["triggerFunction"]) == (batch, "batchTrigger")


def test_a_stream_that_is_sent_again_makes_no_second_run(api):
    batch = announce(api, 2)
    for _ in range(2):
        assert stream(api, batch, items(1, 2)).body["sealed"] is True
    assert Run.objects.count() == 2


def test_one_bad_item_refuses_the_request_and_names_the_argument(api):
    batch = announce(api, 2)
    bad = [*items(1), {"index": 1, "task": double.name, "payload": {"m": 1}}]
    answer = stream(api, batch, bad)
    assert (answer.status, answer.body["param"]) == (422, "items[1].payload.m")
    assert not Run.objects.exists()
    assert messages() == []
    assert stream(api, batch, items(1, 2)).body["sealed"] is True


@pytest.mark.parametrize(
    "found",
    [
        [{"task": double.name, "payload": 1}],
        [{"index": "0", "task": double.name}],
        [{"index": -1, "task": double.name, "payload": {"n": 1}}],
        [{"index": 2, "task": double.name, "payload": {"n": 1}}],
        [{"index": 0}],
        [1],
        [*items(1), *items(1)],
        [{**items(1)[0], "options": {"delay": "soon"}}],
        [{**items(1)[0], "options": []}],
    ],
)
def test_items_that_are_none_are_refused(api, found):
    answer = stream(api, announce(api, 2), found)
    assert answer.status == 400, answer.body
    assert not Run.objects.exists()


def test_lines_that_are_no_json_are_refused(api):
    batch = announce(api, 1)
    for raw in (b"{\n", b"\xff\n", b"[" * 100_000):
        answer = api.post(f"/api/v3/batches/{batch}/items", raw=raw, content_type="application/x-ndjson")
        assert (answer.status, answer.body["code"]) == (400, "bad_json")


@pytest.mark.parametrize(
    ("wrong", "says", "param"),
    [
        ({"payload": {}}, "items[1]: ", "items[1].payload.n"),
        ({"payload": {"n": 1}, "options": {"delay": "soon"}}, "items[1]: delay='soon'", None),
        ({"payload": {"n": 1}, "options": {"metadata": "m"}}, "items[1]: metadata=", None),
        ({"payload": {"n": 1}, "options": 1}, "items[1]: options", None),
        ({"payload": "packet_1", "options": {"payloadType": "application/store"}}, "items[1]: there is no", None),
    ],
)
def test_a_refused_batch_says_which_item_is_to_blame(api, wrong, says, param):
    good = {"task": double.name, "payload": {"n": 1}}
    bad = {"task": double.name, **wrong}
    answers = [
        api.post("/api/v2/tasks/batch", {"items": [good, bad]}),
        api.post(f"/api/v1/tasks/{double.name}/batch", {"items": [good, bad]}),
        stream(api, announce(api, 2), [{**bad, "index": 1}]),
    ]
    for answer in answers:
        assert answer.body["error"].startswith(says), answer.body
        assert answer.body.get("param") == param
    assert not Run.objects.exists()


def test_a_line_that_is_broken_is_named(api):
    raw = json.dumps(items(1)[0]).encode() + b"\n\n{nope}\n"
    answer = api.post(f"/api/v3/batches/{announce(api, 2)}/items", raw=raw, content_type="application/x-ndjson")
    assert answer.status == 400 and answer.body["error"].startswith("line 3 is not JSON")
    assert "at column 2" in answer.body["error"]


def test_a_batch_with_a_key_is_one_batch(api):
    first = api.post("/api/v3/batches", {"runCount": 2, "idempotencyKey": "k"}).body
    again = api.post("/api/v3/batches", {"runCount": 2, "idempotencyKey": "k"}).body
    assert (first["isCached"], again["isCached"], again["id"]) == (False, True, first["id"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"runCount": 0},
        {"runCount": 1001},
        {"runCount": "1"},
        {"runCount": True},
        {"runCount": 1, "idempotencyKey": 1},
    ],
)
def test_a_batch_that_cannot_be_is_refused(api, body):
    assert api.post("/api/v3/batches", body).status == 400
    assert not Batch.objects.exists()


def test_many_triggers_in_one_request(api):
    answer = api.post("/api/v2/tasks/batch", {"items": items(1, 2)})
    assert (answer.status, answer.body["runCount"], len(answer.body["runs"])) == (200, 2, 2)
    one = api.post(f"/api/v1/tasks/{double.name}/batch", {"items": [{"payload": {"n": 1}}]})
    assert len(one.body["runs"]) == 1
    assert Run.objects.count() == BatchItem.objects.count() == 3
    assert api.post("/api/v2/tasks/batch", {"items": [*items(1), {"task": "none"}]}).status == 404
    assert api.post("/api/v2/tasks/batch", {"items": []}).status == 400
    assert Run.objects.count() == 3


def test_a_batch_of_another_environment_is_not_there(api):
    batch = announce(api, 1)
    other = Api(keys.create("prod", "tests").text)
    assert other.get(f"/api/v2/batches/{batch}").status == 404
    assert stream(other, batch, items(1)).status == 404


def test_a_public_token_of_a_batch_sees_it_and_its_runs(api):
    answer = api.post("/api/v2/tasks/batch", {"items": items(1)})
    public = Api(answer.headers["x-trigger-jwt"])
    assert public.get(f"/api/v2/batches/{answer.body['id']}").status == 200
    assert public.get(f"/api/v2/batches/{announce(api, 1)}").status == 404
    assert public.get(f"/api/v3/runs/{answer.body['runs'][0]['id']}").status == 200


def test_a_batch_goes_when_its_runs_have_gone(api):
    kept, old = announce(api, 1), announce(api, 1)
    Batch.objects.filter(pk=old.removeprefix("batch_")).update(created_at=now() - timedelta(days=31))
    assert batches.prune() == 1
    assert [f"batch_{batch.id}" for batch in Batch.objects.all()] == [kept]
