"""Queries and bodies that cannot be: refused by the name of what is wrong, with its limit or its form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.factories import make_run
from tests.inprocess import durable
from triggerapp.api import deployments, destinations, queries, schemas, waitpoints, webhooks
from triggerapp.models import Batch, Queue, Status

pytestmark = pytest.mark.usefixtures("database")
RUNS, TOKENS, QUEUES = "/api/v1/runs", "/api/v1/waitpoints/tokens", "/api/v1/queues"
NINES = "9" * 5000
NONE = "0192f000-0000-7000-8000-000000000000"

REFUSED = {
    f"{RUNS}?filter[createdAt][period]=99999999d": "filter[createdAt][period]=99999999d is longer than 100 years",
    f"{RUNS}?filter[createdAt][period]=week": "filter[createdAt][period]='week' must be a duration such as '30s'",
    f"{RUNS}?filter[createdAt][from]=0001-01-01T00:00%2B14:00": "filter[createdAt][from]='0001-01-01T00:00+14:00' must "
    "be a moment such as '2026-01-31T12:00:00Z', of the years 1 to 9999",
    f"{RUNS}?filter[createdAt][to]={NINES}": "filter[createdAt][to]='99",
    f"{RUNS}?filter[tag]=a%00b": "filter[tag]='a\\x00b' contains a NUL character",
    f"{RUNS}?filter[tag]={'x' * 20_000}": "(20,002 characters) must be a text of 1 to 16384 characters",
    f"{RUNS}?x%00y=1": "there is no parameter 'x\\x00y' here",
    f"{RUNS}?page[size]={10**20}": "page[size]='100000000000000000000' must be a whole number from 1 to 100",
    f"{RUNS}?page[size]={NINES}": "must be a whole number from 1 to 100",
    f"{RUNS}?page[after]={NINES}_0": "page[after]='999",
    f"{RUNS}?page[before]=x": "page[before]='x' is no cursor: take it from `pagination` of a page",
    f"{RUNS}?page[size]=1&page[size]=2": "page[size] is there 2 times: give it once",
    f"{RUNS}?filter[tag]=a&filter[tag]=b": "filter[tag] is there 2 times: give it once, several values with commas",
    f"{RUNS}?" + "&".join(["a"] * 1001): "the query has more than 1,000 parameters",
    f"{RUNS}?filter[batch]=x": "filter[batch]='x' must be the id of a batch, such as batch_",
    f"{RUNS}?filter[schedule]=%ff": "must be the id of a schedule, such as sched_",
    f"{RUNS}?filter[version]=,,": "filter[version]=',,' has an empty value",
    f"{RUNS}?filter[tag]=a,,b": "filter[tag]='a,,b' has an empty value",
    f"{RUNS}?filter[queue]=,": "filter[queue]=',' has an empty value",
    f"{RUNS}?filter[status]=EXECUTING,SLEEPY": "filter[status]='SLEEPY' must be one of QUEUED, ",
    f"{TOKENS}?filter[status]=SLEEPY": "filter[status]='SLEEPY' must be one of WAITING, COMPLETED, TIMED_OUT",
    f"{TOKENS}?filter[tags]=,": "filter[tags]=',' has an empty value",
    f"{QUEUES}?page={10**20}": "page='100000000000000000000' must be a whole number from 1 to 1,000,000",
    f"{QUEUES}?perPage={NINES}": "must be a whole number from 1 to 1,000,000",
    "/api/v1/deployments?status=x": "status='x' must be one of ",
    "/api/v1/deployments?period=99999999d": "period=99999999d is longer than 100 years",
    "/api/v1/webhooks/deliveries?filter[verdict]=x": "filter[verdict]='x' must be one of ",
    "/realtime/v1/runs?tags=a&createdAt=99999999d": "createdAt=99999999d is longer than 100 years",
    "/realtime/v1/runs?tags=a,,b": "tags='a,,b' has an empty value",
    "/realtime/v1/runs?tags=a&live=yes": "live='yes' must be one of true, false",
    "/api/v1/timezones?excludeUtc=yes": "excludeUtc='yes' must be one of true, false",
    "/api/v1/timezones?excludeUTC=true": "there is no parameter 'excludeUTC' here; there are excludeUtc",
    "/api/v1/timezones?excludeUtc=true&excludeUtc=false": "excludeUtc is there 2 times",
    "/api/v1/deployments/latest?status=DEPLOYED": "there is no parameter 'status' here; there is none",
    f"{QUEUES}/celery?kind=custom": "there is no parameter 'kind' here; there are type",
    f"/api/v1/events/{NONE}?x=1": "there is no parameter 'x' here; there is none",
    f"{TOKENS}/{NONE}?x=1": "there is no parameter 'x' here; there is none",
    "/realtime/v1/runs?tags=%00": "tags='\\x00' contains a NUL character",
}


@durable
def anything(*args: Any, **kwargs: Any) -> None:
    return None


@pytest.mark.parametrize(("asked", "says"), REFUSED.items(), ids=[each[:70] for each in REFUSED])
def test_a_parameter_is_refused_by_its_name(asked, says, api):
    answer = api.get(asked)
    assert (answer.status, answer.body["code"]) == (400, "bad_input"), answer.body
    assert says in answer.body["error"]


def test_a_trace_is_refused_by_the_name_of_its_parameter(api):
    trace = f"{RUNS}/run_{make_run(Status.WAITING).id}/trace"
    for name, least, most in (("page[size]", 1, "10,000"), ("page[after]", 0, "1,000,000")):
        answer = api.get(f"{trace}?{name}={NINES}")
        assert answer.status == 400 and answer.body["error"].startswith(f"{name}='999")
        assert f"must be a whole number from {least} to {most}" in answer.body["error"]


FILTERS = {
    "RunList": queries._FILTERS,
    "TokenList": waitpoints._FILTERS,
    "DeploymentList": deployments._FILTERS,
    "DeliveryList": webhooks._FILTERS,
    "NoticeList": destinations._FILTERS,
}


@pytest.mark.parametrize("view", FILTERS)
def test_every_parameter_that_a_list_takes_is_a_filter(view):
    assert set(schemas.QUERIES[view]) == {*schemas.PAGE, *FILTERS[view]}


@pytest.mark.parametrize("path", [f"{QUEUES}/celery/pause?type=custom", "/api/v1/events?name=paid", f"{TOKENS}?tags=a"])
def test_a_post_has_its_fields_in_the_body_and_none_in_the_query(path, api):
    answer = api.post(path, {"action": "pause"})
    assert answer.status == 400 and answer.body["error"].endswith("here; there is none")
    assert not Queue.objects.filter(paused=True).exists()


def test_what_the_client_of_electric_sends_beside_is_taken(api):
    run = make_run(Status.COMPLETED)
    answer = api.get(f"/realtime/v1/runs/run_{run.id}?offset=-1&replica=full&columns=id&cursor=1&live_sse=false")
    assert answer.status == 200


TOO_MUCH = {
    "a number of 5,000 digits": (NINES.encode(), "it has a number of 5,000 digits; 4,300 are allowed"),
    "a number beyond all": (b"1e400", "it has the number 1e400, and 1.8e+308 is the largest"),
    "100,000 brackets": (b"[" * 100_000 + b"]" * 100_000, "it is nested deeper than 500 levels"),
    "600 brackets": (b"[" * 600 + b"]" * 600, "it is nested deeper than 500 levels"),
    "NaN": (b"NaN", "NaN is no JSON"),
    "a key that is there twice": (b'{"x": 1, "y": 2, "x": 3}', 'the key "x" is there twice'),
}
TOO_MUCH_FOR_A_CALLBACK = {name: case for name, case in TOO_MUCH.items() if "key" not in name}
WRITES = {
    f"{TOKENS}": "application/json",
    "/api/v1/events": "application/json",
    "/api/v1/tasks/none/trigger": "application/json",
    "/api/v3/batches/batch_0192f000-0000-7000-8000-000000000000/items": "application/x-ndjson",
}


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(("value", "says"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_json_that_nothing_can_hold_is_refused_with_the_limit(path, value, says, api):
    answer = api.post(path, raw=b'{"payload": ' + value + b"}", content_type=WRITES[path])
    assert (answer.status, answer.body["code"]) == (400, "bad_json")
    what = "line 1" if "ndjson" in WRITES[path] else "the body"
    assert answer.body["error"].startswith(f"{what} is not JSON that can be taken: ") and says in answer.body["error"]


@pytest.mark.parametrize(("value", "says"), TOO_MUCH_FOR_A_CALLBACK.values(), ids=TOO_MUCH_FOR_A_CALLBACK)
def test_so_it_is_at_the_url_of_a_token(value, says, api):
    url = api.post(TOKENS, {}).body["url"]
    answer = Api(None).post("/api" + url.partition("/api")[2], raw=value)
    assert (answer.status, answer.body["code"]) == (400, "bad_json") and says in answer.body["error"]


def test_of_a_key_that_others_send_twice_to_the_url_of_a_token_the_last_one_counts(api):
    token = api.post(TOKENS, {}).body
    assert Api(None).post("/api" + token["url"].partition("/api")[2], raw=b'{"x": 1, "x": 2}').status == 200
    assert json.loads(api.get(f"{TOKENS}/{token['id']}").body["output"]) == {"x": 2}


@pytest.mark.parametrize("name", ["batch", "schedule"])
def test_a_bulk_action_is_refused_by_the_name_of_its_filter(name, api):
    answer = api.post("/api/v1/bulk-actions", {"action": "cancel", "filter": {name: "x"}})
    assert answer.status == 400 and f"{name}='x' must be the id of a {name}, such as " in answer.body["error"]


def test_a_queue_that_is_not_found_by_its_id_is_told_how_to_name_it(api):
    Queue.objects.get_or_create(environment_id=make_run().environment_id, name="celery")
    answer = api.post(f"{QUEUES}/celery/pause", {})
    assert answer.status == 404
    assert answer.body["error"] == (
        "there is no queue with the id 'celery'; if that is its name, send the type \"custom\" in the body"
    )
    assert api.get(f"{QUEUES}/celery").body["error"].endswith('send the type "custom" in the query')
    assert api.get(f"{QUEUES}/celery?type=custom").status == 200
    assert api.post(f"{QUEUES}/celery/pause", {"type": "custom", "action": "pause"}).body["paused"]
    assert api.post(f"{QUEUES}/no/pause", {"type": "custom"}).body["error"] == "there is no queue of the name 'no'"
    for kind in ("name", 7, ["id"]):
        told = api.post(f"{QUEUES}/celery/pause", {"type": kind}).body["error"]
        assert told == f"type={kind!r} must be one of id, custom, task"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"v1/events/{NONE}", f"there is no event event_{NONE}"),
        (f"v1/batches/batch_{NONE}", f"there is no batch batch_{NONE}"),
        (f"v1/deployments/{NONE}", f"there is no deployment deployment_{NONE}"),
        (f"v1/schedules/{NONE}", f"there is no schedule sched_{NONE}"),
        (f"v1/bulk-actions/{NONE}", f"there is no bulk action bulk_{NONE}"),
        (f"v1/waitpoints/tokens/{NONE}", f"there is no token waitpoint_{NONE}"),
        ("v1/schedules/sched_x", "there is no schedule sched_x"),
        ("v1/bulk-actions/bulk_x", "there is no bulk action bulk_x"),
        ("v1/waitpoints/tokens/waitpoint_x", "there is no token waitpoint_x"),
    ],
)
def test_what_is_not_there_is_called_as_the_documentation_calls_it(path, says, api):
    assert api.get(f"/api/{path}").body["error"] == says


@pytest.mark.parametrize("verb", ["v1/runs/{}/retry", "v1/runs/{}/reschedule"])
def test_a_refusal_shows_a_run_as_the_api_does(verb, api):
    run = make_run(Status.COMPLETED)
    answer = api.post(f"/api/{verb.format(run.id)}", {"delay": "1h"} if "reschedule" in verb else None)
    assert answer.status == 422 and answer.body["error"].startswith(f"run_{run.id} is ")


def test_a_refusal_shows_an_event_and_a_batch_as_the_api_does(api):
    event = api.post("/api/v1/events", {"name": "paid"}).body["id"]
    assert api.post(f"/api/v1/events/{event}/cancel").body["error"].startswith(f"{event} was delivered")
    body = {"items": [{"task": anything.name, "payload": {}}]}
    batch = api.post("/api/v2/tasks/batch", body).body["id"]
    row = Batch.objects.get()
    row.run_count += 1
    row.save()
    line = json.dumps({"index": 1, "task": anything.name}).encode()
    answer = api.post(f"/api/v3/batches/{batch}/items", raw=line, content_type="application/x-ndjson")
    assert answer.body["error"] == f"{batch} is complete and takes no more items"


HUGE = 10**4000
NUMBERS = {
    "maxAttempts": ("v1/tasks/{task}/trigger", {"options": {"maxAttempts": HUGE}}),
    "idempotencyKey": ("v1/tasks/{task}/trigger", {"options": {"idempotencyKey": HUGE}}),
    "concurrencyKey": ("v1/tasks/{task}/trigger", {"options": {"concurrencyKey": HUGE}}),
    "priority": ("v1/tasks/{task}/trigger", {"options": {"priority": HUGE}}),
    "ttl": ("v1/tasks/{task}/trigger", {"options": {"ttl": HUGE}}),
    "maxDuration": ("v1/tasks/{task}/trigger", {"options": {"maxDuration": HUGE}}),
    "idempotencyKeyTTL": ("v1/tasks/{task}/trigger", {"options": {"idempotencyKeyTTL": HUGE}}),
    "concurrencyLimit": ("v1/queues/{queue}/concurrency/override", {"type": "custom", "concurrencyLimit": HUGE}),
    "runCount": ("v3/batches", {"runCount": HUGE}),
    "tolerance": ("v1/webhooks/endpoints", {"name": "hub", "tolerance": HUGE}),
    "deliverAfter": ("v1/events", {"name": "paid", "deliverAfter": HUGE}),
    "expirationTime": ("v1/auth/public-tokens", {"scopes": ["read:runs"], "expirationTime": HUGE}),
}


@pytest.mark.parametrize(("name", "path", "body"), [(name, *asked) for name, asked in NUMBERS.items()], ids=NUMBERS)
def test_a_number_beyond_its_limit_is_refused_by_its_name_in_a_sentence_that_can_be_read(name, path, body, api):
    queue = make_run().queue.name
    answer = api.post(f"/api/{path.format(task=anything.name, queue=queue)}", body)
    assert (answer.status, answer.body["code"]) == (400, "bad_input"), answer.body
    assert name in answer.body["error"] and len(answer.body["error"]) < 300


def test_an_index_beyond_all_is_refused_by_its_name(api):
    batch = api.post("/api/v3/batches", {"runCount": 1}).body["id"]
    line = json.dumps({"index": HUGE, "task": anything.name}).encode()
    answer = api.post(f"/api/v3/batches/{batch}/items", raw=line, content_type="application/x-ndjson")
    assert (answer.status, answer.body["code"]) == (400, "bad_input")
    assert "index" in answer.body["error"] and len(answer.body["error"]) < 300
