"""Runs over HTTP: found by every filter, page by page, and changed only by who may."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import make_run, make_step, make_unreadable, make_wait
from triggerapp.api import spans
from triggerapp.clock import now
from triggerapp.engine import environments
from triggerapp.models import Attempt, AuditEntry, Batch, BatchItem, Run, Status, WaitKind

pytestmark = pytest.mark.django_db
RUNS = "/api/v1/runs"


def shown(api, **filters: str) -> list[str]:
    answer = api.get(f"{RUNS}?" + "&".join(f"{name}={value}" for name, value in filters.items()))
    assert answer.status == 200, answer.body
    return [row["id"].removeprefix("run_") for row in answer.body["data"]]


def ids(*runs: Run) -> list[str]:
    return [str(run.id) for run in runs]


def test_a_run_is_shown_with_payload_output_and_what_its_status_means(api):
    run = make_run(Status.COMPLETED, result=b'{"ok": true}', result_type="application/json", tags=["a"])
    body = api.get(f"/api/v3/runs/run_{run.id}").body
    assert (body["status"], body["isCompleted"], body["isSuccess"], body["isFailed"]) == (
        "COMPLETED",
        True,
        True,
        False,
    )
    assert body["output"] == {"ok": True}
    assert body["payload"] == {}
    assert body["tags"] == ["a"]
    assert body["relatedRuns"] == {}


def test_what_was_pickled_is_not_opened(api):
    run = make_run(Status.COMPLETED, result=b"cos\nsystem\n", result_type="application/x-python-serialize")
    message = json.loads(run.message)
    Run.objects.filter(pk=run.pk).update(
        payload=b"cos\nsystem\n", message=json.dumps({**message, "content_type": "application/x-python-serialize"})
    )
    body = api.get(f"/api/v3/runs/run_{run.id}").body
    assert "output" not in body
    assert "payload" not in body


def test_a_failed_run_says_why(api):
    error = {"type": "shop.errors:CardRefused", "message": "no", "traceback": "Traceback…"}
    run = make_run(Status.FAILED, error=error)
    assert api.get(f"/api/v3/runs/run_{run.id}").body["error"] == {
        "name": "CardRefused",
        "message": "no",
        "stackTrace": "Traceback…",
    }
    result = api.get(f"{RUNS}/run_{run.id}/result").body
    assert result["ok"] is False
    assert result["error"]["type"] == "BUILT_IN_ERROR"


def test_the_result_of_a_run_that_goes_on_is_a_404(api):
    run = make_run(Status.RUNNING)
    assert api.get(f"{RUNS}/run_{run.id}/result").status == 404


def test_relatives_are_shown_and_those_that_are_gone_are_not(api):
    root = make_run(Status.RUNNING)
    child = make_run(Status.QUEUED, parent=root, root=root, parent_key="t#1")
    lost = make_run(Status.QUEUED, parent_id=make_run().id, root=root)
    Run.objects.filter(pk=lost.parent_id).delete()
    assert [each["id"] for each in api.get(f"/api/v3/runs/run_{root.id}").body["relatedRuns"]["children"]] == [
        f"run_{child.id}"
    ]
    body = api.get(f"/api/v3/runs/run_{child.id}").body
    assert body["relatedRuns"]["parent"]["id"] == body["relatedRuns"]["root"]["id"] == f"run_{root.id}"
    assert body["depth"] == 1
    assert "parent" not in api.get(f"/api/v3/runs/run_{lost.id}").body["relatedRuns"]


@pytest.mark.parametrize("text", ["run_x", "x", "run_00000000-0000-7000-8000-000000000000", "RUN_1", "run_" + "0" * 32])
def test_what_is_no_run_is_a_404(api, text):
    answer = api.get(f"/api/v3/runs/{text}")
    assert (answer.status, answer.body["code"]) == (404, "not_found")


def test_runs_of_another_environment_are_not_there(api, key_for):
    run = make_run(Status.WAITING, environment_id=environments.by_slug("prod"))
    assert api.get(f"/api/v3/runs/run_{run.id}").status == 404
    assert api.post(f"/api/v2/runs/run_{run.id}/cancel").status == 404
    assert shown(api) == []
    assert shown(key_for(environment="prod")) == ids(run)


def test_every_filter_finds_its_runs(api):
    waiting, done = (
        make_run(Status.WAITING, task="shop.buy", tags=["vip", "x"]),
        make_run(Status.COMPLETED, queue="slow"),
    )
    delayed = make_run(Status.PENDING, due_at=now() + timedelta(hours=1))
    held, batch = make_run(Status.PENDING), Batch.objects.create(environment_id=waiting.environment_id, run_count=1)
    BatchItem.objects.create(batch=batch, index=0, run=done.id)
    assert shown(api, **{"filter[status]": "WAITING"}) == ids(waiting)
    assert shown(api, **{"filter[status]": "WAITING,COMPLETED"}) == ids(done, waiting)
    assert shown(api, **{"filter[status]": "DELAYED"}) == ids(delayed)
    assert shown(api, **{"filter[status]": "QUEUED"}) == ids(held)
    assert shown(api, **{"filter[taskIdentifier]": "shop.buy,shop.sell"}) == ids(waiting)
    assert shown(api, **{"filter[tag]": "vip,other"}) == ids(waiting)
    assert shown(api, **{"filter[queue]": "slow"}) == ids(done)
    assert shown(api, **{"filter[batch]": f"batch_{batch.id}"}) == ids(done)
    assert shown(api, **{"filter[batch]": f"batch_{done.id}"}) == []
    assert shown(api, **{"filter[isTest]": "true"}) == []
    assert len(shown(api, **{"filter[isTest]": "false"})) == 4
    versioned = make_run(version="20240101.1")
    assert shown(api, **{"filter[version]": "20240101.1,20240101.2"}) == ids(versioned)
    assert shown(api, **{"filter[version]": "20240101.2"}) == []


def test_times_of_the_filter_are_periods_milliseconds_or_iso(api):
    old, new = make_run(), make_run()
    Run.objects.filter(pk=old.pk).update(created_at=now() - timedelta(days=2))
    yesterday = int((now() - timedelta(days=1)).timestamp() * 1000)
    assert shown(api, **{"filter[createdAt][period]": "1d"}) == ids(new)
    assert shown(api, **{"filter[createdAt][from]": str(yesterday)}) == ids(new)
    assert shown(api, **{"filter[createdAt][to]": str(yesterday)}) == ids(old)
    assert shown(api, **{"filter[createdAt][from]": "2020-01-01T00:00:00Z"}) == ids(new, old)


@pytest.mark.parametrize(
    "query",
    [
        "filter[status]=SLEEPY",
        "filter[pk__in]=1",
        "filter[createdAt][from]=yesterday",
        "filter[createdAt][period]=99999999999999w",
        "page[size]=0",
        "page[size]=1000",
        "page[after]=x",
        "page[after]=99999999999999999999999_00",
        "filter[tag]=%00",
        "filter[taskIdentifier]=%00",
        "filter[createdAt][to]=9999999999999999999",
    ],
)
def test_a_query_that_means_nothing_is_refused_with_a_sentence(api, query):
    answer = api.get(f"{RUNS}?{query}")
    assert (answer.status, answer.body["code"]) == (400, "bad_input")
    assert len(answer.body["error"]) > 10


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("status=WAITING", "did you mean filter[status]"),
        ("size=5", "did you mean page[size]"),
        ("period=1d", "did you mean filter[createdAt][period]"),
        ("order=asc", ", filter[status], "),
    ],
)
def test_an_unknown_parameter_is_refused_by_name(api, query, meant):
    for url in (RUNS, "/api/v1/projects/p/runs"):
        answer = api.get(f"{url}?{query}")
        assert (answer.status, answer.body["code"]) == (400, "bad_input")
        assert query.partition("=")[0] in answer.body["error"]
        assert meant in answer.body["error"]


def test_pages_go_forth_and_back_and_stay_right_while_new_runs_come(api):
    runs = [make_run() for _ in range(5)][::-1]
    first = api.get(f"{RUNS}?page[size]=2").body
    make_run()
    second = api.get(f"{RUNS}?page[size]=2&page[after]={first['pagination']['next']}").body
    third = api.get(f"{RUNS}?page[size]=2&page[after]={second['pagination']['next']}").body
    back = api.get(f"{RUNS}?page[size]=2&page[before]={third['pagination']['previous']}").body
    seen = [row["id"][4:] for page in (first, second, third) for row in page["data"]]
    assert seen == ids(*runs)
    assert "previous" not in first["pagination"]
    assert "next" not in third["pagination"]
    assert back["data"] == second["data"]


def test_no_filter_reads_the_whole_table(api, django_assert_max_num_queries):
    """With sequential scans made dear, as they are in a large table, no plan has one."""
    make_run()
    seen: list[str] = []

    def explain(execute, sql, params, many, context):
        if sql.startswith("SELECT") and 'FROM "triggerapp_run"' in sql:
            with connection.connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")
                cursor.execute("EXPLAIN " + sql, params)
                seen.append("\n".join(row[0] for row in cursor.fetchall()))
        return execute(sql, params, many, context)

    make_run(queue="a")
    filters = {
        "status": "FAILED",
        "taskIdentifier": "a",
        "tag": "a",
        "queue": "a",
        "createdAt][period": "1d",
        "batch": "batch_00000000-0000-7000-8000-000000000000",
        "schedule": "sched_00000000-0000-7000-8000-000000000000",
    }
    with connection.execute_wrapper(explain):
        for name, value in filters.items():
            shown(api, **{f"filter[{name}]": value})
    assert len(seen) == len(filters)
    assert not [plan for plan in seen if "Seq Scan on triggerapp_run" in plan]


def test_a_waiting_run_is_canceled_once_and_the_deed_is_noted(api):
    run = make_run(Status.WAITING)
    for _ in range(2):
        assert api.post(f"/api/v2/runs/run_{run.id}/cancel").body == {"id": f"run_{run.id}"}
    assert Run.objects.get().status == Status.CANCELED
    entry = AuditEntry.objects.get(action="run.cancel")
    assert entry.actor.startswith("key tr_dev_sk_")


def test_a_failed_run_is_retried_and_a_completed_one_is_not(api):
    failed, done = make_run(Status.FAILED, error={"steps": []}), make_run(Status.COMPLETED)
    assert api.post(f"{RUNS}/run_{failed.id}/retry").status == 200
    refused = api.post(f"{RUNS}/run_{done.id}/retry")
    assert (refused.status, refused.body["code"]) == (422, "illegal_move")
    assert refused.headers["x-should-retry"] == "false"


def test_a_delayed_run_is_rescheduled_and_a_started_one_is_not(api):
    run = make_run(Status.PENDING, due_at=now() + timedelta(hours=1))
    body = api.post(f"{RUNS}/run_{run.id}/reschedule", {"delay": "2030-01-01T00:00:00.000Z"}).body
    assert (body["status"], body["delayedUntil"]) == ("DELAYED", "2030-01-01T00:00:00Z")
    assert AuditEntry.objects.get(action="run.reschedule").after.startswith("2030")
    assert api.post(f"{RUNS}/run_{run.id}/reschedule", {"delay": "soon"}).status == 400
    started = make_run(Status.RUNNING)
    assert api.post(f"{RUNS}/run_{started.id}/reschedule", {"delay": "1h"}).status == 422


def test_tags_are_added_once_and_not_too_many(api):
    run = make_run(tags=["a"])
    assert api.post(f"{RUNS}/run_{run.id}/tags", {"tags": ["b", "a"]}).status == 200
    assert api.post(f"{RUNS}/run_{run.id}/tags", {"tags": "c"}).status == 200
    assert Run.objects.get().tags == ["a", "b", "c"]
    assert api.post(f"{RUNS}/run_{run.id}/tags", {"tags": [str(n) for n in range(9)]}).status == 400
    assert api.post(f"{RUNS}/run_{run.id}/tags", {"tags": [1]}).status == 400
    assert Run.objects.get().tags == ["a", "b", "c"]


def test_metadata_is_replaced_and_changed_key_by_key(api):
    parent = make_run(metadata={"n": 1})
    run = make_run(parent=parent, root=parent)
    path = f"{RUNS}/run_{run.id}/metadata"
    operations = [
        {"type": "set", "key": "$.progress.done", "value": 1},
        {"type": "increment", "key": "$.progress.done", "value": 2},
        {"type": "append", "key": "log", "value": "x"},
        {"type": "append", "key": "log", "value": "y"},
        {"type": "remove", "key": "log", "value": "x"},
        {"type": "delete", "key": "a"},
        {"type": "update", "value": {"b": 2}},
    ]
    above = [{"type": "increment", "key": "n", "value": 1}]
    body = api.put(path, {"metadata": {"a": 1}, "operations": operations, "parentOperations": above}).body
    assert body == {"metadata": {"progress": {"done": 3}, "log": ["y"], "b": 2}}
    assert api.get(path).body == body
    assert Run.objects.get(pk=parent.pk).metadata == {"n": 2}


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": []},
        {"metadata": {"a": "\0"}},
        {"operations": {"a": 1}},
        {"operations": [{"type": "explode"}]},
        {"operations": [{"type": "set", "key": "$..a", "value": 1}]},
        {"operations": [{"type": "set", "key": "", "value": 1}]},
        {"operations": [{"type": "set", "value": 1}]},
        {"operations": [{"type": "increment", "key": "a", "value": "1"}]},
        {"operations": [{"type": "set", "key": "a", "value": "x" * 300_000}]},
    ],
)
def test_metadata_that_cannot_be_is_refused(api, body):
    run = make_run()
    assert api.put(f"{RUNS}/run_{run.id}/metadata", body).status == 400
    assert Run.objects.get().metadata == {}


def test_a_run_is_shown_as_spans(api):
    run = make_run(Status.WAITING)
    step = make_step(run, "charge#1", 1)
    make_wait(run, WaitKind.TIMER)
    events = api.get(f"{RUNS}/run_{run.id}/events").body["events"]
    assert events[0]["kind"] == "run"
    assert {each["kind"] for each in events} == {"run", "attempt", "step", "wait"}
    tree = api.get(f"{RUNS}/run_{run.id}/trace").body["trace"]["rootSpan"]
    (attempt,) = tree["children"]
    assert "charge#1" in [each["data"]["message"] for each in attempt["children"]]
    assert api.get(f"{RUNS}/run_{run.id}/spans/step_{step.pk}").body["message"] == "charge#1"
    assert api.get(f"{RUNS}/run_{run.id}/spans/none").status == 404


@pytest.mark.parametrize(
    "raw", [b"{", b"[" * 100_000, b'{"tags": NaN}', b"\xff", b'{"a": 1' + b"0" * 5000 + b"}", b"[1]"]
)
def test_a_body_that_is_no_json_object_is_refused(api, raw):
    run = make_run()
    answer = api.post(f"{RUNS}/run_{run.id}/tags", raw=raw)
    assert (answer.status, answer.body["code"]) == (400, "bad_json")


@pytest.mark.parametrize("verb", ["v2/runs/{}/cancel", "v1/runs/{}/retry"])
def test_a_broken_body_is_not_taken_for_none_where_none_is_needed(api, verb):
    run = make_run(Status.FAILED if "retry" in verb else Status.WAITING)
    url = f"/api/{verb.format(f'run_{run.id}')}"
    answer = api.post(url, raw=b'{"reason": ')
    assert (answer.status, answer.body["code"], Run.objects.get().status) == (400, "bad_json", run.status)
    assert api.post(url, raw=b"").status == 200


def test_a_body_over_the_limit_is_refused_unread(api, settings):
    settings.TRIGGERAPP = {"API_MAX_BODY_BYTES": 10}
    assert api.post(f"{RUNS}/run_{make_run().id}/tags", {"tags": ["0123456789"]}).status == 413


def test_runs_are_listed_under_a_project_and_its_environments_too(api):
    run = make_run()
    for query, expected in (("", [run]), ("?filter[env]=dev", [run]), ("?filter[env]=prod,stg", [])):
        rows = api.get(f"/api/v1/projects/shop/runs{query}").body["data"]
        assert [row["id"] for row in rows] == [f"run_{each.id}" for each in expected]


def test_spans_are_read_without_what_was_recorded(api):
    run = make_run(Status.WAITING)
    make_step(run, "charge#1", 1)
    make_wait(run, WaitKind.TIMER)
    with CaptureQueriesContext(connection) as made:
        assert len(spans.of(run)) == 4
    assert len(made) == 3
    assert not [query for query in made if '"value"' in query["sql"] or '"filter"' in query["sql"]]


def test_a_trace_comes_in_pages_of_spans(api):
    run = make_run(Status.FAILED)
    Attempt.objects.filter(run=run).update(error={"type": "a:B", "message": "no"})
    make_step(run, "a#1")
    path = f"{RUNS}/run_{run.id}/trace"
    first = api.get(f"{path}?page[size]=2").body
    rest = api.get(f"{path}?page[size]=2&page[after]={first['pagination']['next']}").body
    assert [span["id"].split("_")[0] for span in first["data"] + rest["data"]] == ["run", "attempt", "step"]
    assert first["attemptFailures"] == [{"spanId": "attempt_1", "attemptNumber": 1, "runId": f"run_{run.id}"}]
    assert rest["pagination"] == {}
    assert api.get(f"{path}?page[size]=x").status == 400


def test_a_replay_of_what_cannot_be_read_is_refused(api):
    run = make_unreadable()
    answer = api.post(f"{RUNS}/run_{run.id}/replay", {})
    assert (answer.status, answer.body["code"]) == (422, "undecodable")
    assert Run.objects.count() == 1


def test_a_form_is_told_what_to_send_instead(api):
    answer = api.call("POST", "/api/v1/tasks/x/trigger", raw=b"a=1", content_type="application/x-www-form-urlencoded")
    assert (answer.status, answer.body["code"]) == (415, "unsupported_media_type")
    assert "Send it with Content-Type: application/json" in answer.body["error"]
