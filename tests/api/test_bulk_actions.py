"""Bulk actions over HTTP: begun with a filter or with ids, done by the ticks, in the environment of the key only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.api.conftest import Api
from tests.factories import fresh, make_run
from triggerapp.clock import now
from triggerapp.engine import bulk, environments
from triggerapp.models import AuditEntry, Batch, BatchItem, BulkAction, BulkVerb, Firing, Run, Schedule, Status

pytestmark = pytest.mark.django_db
BULK = "/api/v1/bulk-actions"


def begin(api: Api, **body: Any) -> str:
    answer = api.post(BULK, {"action": "cancel", **body})
    assert answer.status == 200, answer.body
    return answer.body["id"]


def done(api: Api, action: str) -> dict[str, Any]:
    while bulk.advance():
        pass
    return api.get(f"{BULK}/{action}").body


def test_runs_are_canceled_by_their_ids(api):
    runs = [make_run() for _ in range(3)]
    action = begin(api, runIds=[f"run_{run.id}" for run in runs[:2]], name="clean up")
    shown = api.get(f"{BULK}/{action}").body
    assert (shown["status"], shown["name"], shown["type"]) == ("PENDING", "clean up", "CANCEL")
    assert shown["counts"] == {"total": 2, "success": 0, "failure": 0}
    shown = done(api, action)
    assert (shown["status"], shown["counts"]) == ("COMPLETED", {"total": 2, "success": 2, "failure": 0})
    assert shown["completedAt"]
    assert [fresh(run).status for run in runs] == ["canceled", "canceled", "queued"]
    entry = AuditEntry.objects.get(action="bulk.start")
    assert entry.actor.startswith("key tr_dev_sk_")


def test_runs_are_replayed_by_a_filter(api):
    wanted = [make_run(Status.FAILED, task="shop.buy") for _ in range(2)]
    make_run(Status.FAILED), make_run(Status.COMPLETED, task="shop.buy")
    action = begin(api, action="replay", filter={"taskIdentifier": "shop.buy", "status": ["FAILED"]})
    assert done(api, action)["counts"] == {"total": 2, "success": 2, "failure": 0}
    assert set(Run.objects.filter(replay_of__isnull=False).values_list("replay_of", flat=True)) == {
        run.id for run in wanted
    }


def taken(filter: dict[str, Any]) -> set[Any]:
    from triggerapp.api.bulkactions import selection_of

    return set(bulk.matching(environments.current(), selection_of(filter)))


def test_every_filter_takes_the_runs_that_the_list_shows():
    here = environments.current()
    waits = make_run(Status.WAITING, task="a", tags=["x", "y"], queue="slow")
    late = make_run(Status.PENDING, task="b", due_at=now() + timedelta(hours=1))
    full = make_run(Status.PENDING, task="b", tags=["y"], version="1")
    old = make_run(Status.COMPLETED, task="c")
    Run.objects.filter(pk=old.pk).update(created_at=now() - timedelta(days=30))
    batch = Batch.objects.create(environment_id=here, run_count=1)
    BatchItem.objects.create(batch=batch, index=0, run=late.id)
    schedule = Schedule.objects.create(environment_id=here, task="a", cron="* * * * *", deduplication_key="k")
    Firing.objects.create(schedule=schedule, due_at=now(), run=full.id)
    ids = {run.id for run in (waits, late, full)}
    for filter, expected in [
        ({"status": "WAITING"}, {waits.id}),
        ({"status": "DELAYED"}, {late.id}),
        ({"status": ["QUEUED"]}, {full.id}),
        ({"status": ["QUEUED", "DELAYED", "WAITING"]}, ids),
        ({"status": "DEQUEUED"}, set()),
        ({"taskIdentifier": ["a", "b"]}, ids),
        ({"tag": "x"}, {waits.id}),
        ({"tag": ["x", "y"]}, {waits.id, full.id}),
        ({"queue": {"type": "custom", "name": "slow"}}, {waits.id}),
        ({"queue": [{"type": "custom", "name": "none"}]}, set()),
        ({"batch": f"batch_{batch.pk}"}, {late.id}),
        ({"batch": "batch_0192f000-0000-7000-8000-000000000000"}, set()),
        ({"schedule": f"sched_{schedule.pk}"}, {full.id}),
        ({"isTest": False}, ids),
        ({"isTest": True}, set()),
        ({"version": "1"}, {full.id}),
        ({"version": ["2"]}, set()),
        ({"period": "90d"}, {*ids, old.id}),
        ({"from": (now() - timedelta(days=60)).isoformat()}, {*ids, old.id}),
        ({"from": (now() - timedelta(days=60)).isoformat(), "to": (now() - timedelta(days=1)).isoformat()}, {old.id}),
        ({"to": int(now().timestamp() * 1000) + 1000}, {*ids, old.id}),
    ]:
        assert taken(filter) == expected, filter


def test_a_filter_survives_being_stored(api):
    run = make_run(Status.PENDING, task="a", tags=["x"], due_at=now() + timedelta(hours=1))
    make_run(Status.PENDING, task="a", tags=["x"])
    make_run(task="b", tags=["x"])
    action = begin(api, filter={"taskIdentifier": ["a"], "tag": ["x"], "status": ["DELAYED"], "period": "1d"})
    assert done(api, action)["counts"]["success"] == 1
    assert fresh(run).status == Status.CANCELED
    assert Run.objects.filter(status=Status.CANCELED).count() == 1


def test_a_run_of_another_environment_is_no_run(api):
    theirs = make_run(environment_id=environments.by_slug("prod"))
    answer = api.post(BULK, {"action": "cancel", "runIds": [f"run_{theirs.id}"]})
    assert answer.status == 404 and str(theirs.id) in answer.body["error"]
    asked = bulk.start(BulkVerb.CANCEL, environment=environments.current(), actor="", selected=[theirs.id])
    while bulk.advance():
        pass
    assert (fresh(asked).done, fresh(asked).refused) == (0, 1)
    assert fresh(theirs).status == Status.QUEUED


def test_an_abort_stops_what_is_left_and_a_second_one_changes_nothing(api):
    runs = [make_run() for _ in range(3)]
    action = begin(api, filter={"status": "QUEUED"})
    bulk._advance_by_one()
    for _ in range(2):
        assert api.post(f"{BULK}/{action}/abort").body == {"id": action}
    assert done(api, action)["status"] == "ABORTED"
    assert sum(fresh(run).status == Status.CANCELED for run in runs) == 1
    entry = AuditEntry.objects.get(action="bulk.abort")
    assert entry.environment_id == environments.current()
    over = begin(api, filter={"status": "QUEUED"})
    done(api, over)
    assert api.post(f"{BULK}/{over}/abort").status == 422


def test_the_list_has_pages_and_no_retries_which_the_sdk_does_not_know(api):
    make_run(Status.FAILED)
    made = [begin(api, filter={"isTest": False}) for _ in range(3)]
    retry = bulk.start(
        BulkVerb.RETRY, environment=environments.current(), actor="", selected=[make_run(Status.FAILED).id]
    )
    page = api.get(f"{BULK}?page[size]=2").body
    rest = api.get(f"{BULK}?page[size]=2&page[after]={page['pagination']['next']}").body
    assert {row["id"] for row in page["data"] + rest["data"]} == set(made)
    assert api.get(f"{BULK}/bulk_{retry.pk}").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "retry", "filter": {"tag": "x"}},
        {"action": ["cancel"], "filter": {"tag": "x"}},
        {"action": "cancel"},
        {"action": "cancel", "filter": {}},
        {"action": "cancel", "filter": {"tag": []}},
        {"action": "cancel", "filter": []},
        {"action": "cancel", "filter": {"tag": "x"}, "runIds": ["run_1"]},
        {"action": "cancel", "runIds": []},
        {"action": "cancel", "runIds": "run_1"},
        {"action": "cancel", "runIds": [1]},
        {"action": "cancel", "runIds": [f"run_{uuid4()}"] * 1001},
        {"action": "cancel", "filter": {"status": "NONE"}},
        {"action": "cancel", "filter": {"tag": [None]}},
        {"action": "cancel", "filter": {"tag": "a\0"}},
        {"action": "cancel", "filter": {"queue": "slow"}},
        {"action": "cancel", "filter": {"from": "yesterday"}},
        {"action": "cancel", "filter": {"period": "1d", "from": 0}},
        {"action": "cancel", "filter": {"colour": "red"}},
        {"action": "cancel", "filter": {"tag": "x"}, "name": "x" * 256},
        {"action": "cancel", "filter": {"tag": "x"}, "when": "now"},
    ],
)
def test_what_cannot_be_a_bulk_action_is_refused_with_the_reason(api, body):
    answer = api.post(BULK, body)
    assert answer.status == 400, answer.body
    assert answer.body["error"]
    assert not BulkAction.objects.exists()
