"""Realtime: a question is answered at once if something is new, and held otherwise, without a database connection."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from django.db import connection

from tests import plans
from tests.api.conftest import Answer, Api
from tests.factories import fresh, make_run
from tests.inprocess import at_once
from triggerapp.api import realtime
from triggerapp.engine import keys, metadata
from triggerapp.models import Batch, BatchItem, Run, Status

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def ask(api: Api, path: str, last: Answer | None = None, **params: Any) -> Answer:
    """As the SDK asks: first for all, then for what is new since the last answer."""
    sent = {"offset": "-1", "log": "full", **params}
    if last is not None:
        sent |= {"offset": last.headers["electric-offset"], "handle": last.headers["electric-handle"], "live": "true"}
    query = "&".join(f"{name}={value}" for name, value in sent.items())
    return api.get(f"/realtime/v1/{path}?{query}")


def rows(answer: Answer) -> list[dict[str, Any]]:
    return [message["value"] for message in answer.body if "key" in message]


def run_path(run: Run) -> str:
    return f"runs/run_{run.id}"


def test_the_first_answer_is_the_run_as_it_is(api):
    run = make_run(Status.RUNNING, tags=["a", 'b"\\c'], metadata={"k": 1})
    answer = ask(api, run_path(run))
    (row,) = rows(answer)
    assert (row["friendlyId"], row["status"], row["runTags"]) == (f"run_{run.id}", "EXECUTING", '{"a","b\\"\\\\c"}')
    assert json.loads(row["metadata"]) == {"k": 1}
    assert all(value is None or isinstance(value, str) for value in row.values())
    assert answer.body[-1] == {"headers": {"control": "up-to-date"}}
    assert set(json.loads(answer.headers["electric-schema"])) == set(row)
    for name in ("offset", "handle", "cursor", "up-to-date"):
        assert f"electric-{name}" in answer.headers


def test_a_question_is_held_until_the_run_changes(api, monkeypatch):
    monkeypatch.setattr(realtime.Shape, "held", 120.0)
    run = make_run(Status.RUNNING)
    first = ask(api, run_path(run))
    changer = threading.Timer(0.5, lambda: at_once(lambda: fresh(run).move(Status.COMPLETED, lease=run.lease)))
    changer.start()
    second = ask(api, run_path(run), first)
    changer.join()
    assert [row["status"] for row in rows(second)] == ["COMPLETED_SUCCESSFULLY"]
    assert second.headers["electric-offset"] != first.headers["electric-offset"]


def test_what_changed_between_two_questions_is_told_at_once(api):
    run = make_run(Status.WAITING)
    first = ask(api, run_path(run))
    metadata.change(run.id, replace={"k": 2}, operations=[], actor="")
    assert json.loads(rows(ask(api, run_path(run), first))[0]["metadata"]) == {"k": 2}


def test_nothing_new_is_said_after_a_while(api, monkeypatch):
    monkeypatch.setattr(realtime.Shape, "held", 0.3)
    run = make_run(Status.WAITING)
    first = ask(api, run_path(run))
    second = ask(api, run_path(run), first)
    assert (rows(second), second.headers["electric-offset"]) == ([], first.headers["electric-offset"])


@pytest.mark.slow
def test_held_questions_take_one_connection_together(api, monkeypatch):
    monkeypatch.setattr(realtime.Shape, "held", 120.0)
    run = make_run(Status.WAITING)
    first = ask(api, run_path(run))
    connection.close()

    def change_when_few() -> bool:
        deadline = time.monotonic() + 100
        while not (few := all_are_held() and connections() <= 2 + 1) and time.monotonic() < deadline:
            time.sleep(0.05)
        fresh(run).move(Status.CANCELED)
        return few

    assert at_once(*[lambda: ask(api, run_path(run), first)] * 20, change_when_few)[-1]


def all_are_held() -> bool:
    return len(realtime.watch.watchers()) == 20


def connections() -> int:
    """Among them that of who counts, the watch's, and that of the test's own thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_runs_with_a_tag_come_and_change(api, monkeypatch):
    monkeypatch.setattr(realtime.RealtimeRuns, "held", 0.3)
    mine, _ = make_run(Status.RUNNING, tags=["t", "u"]), make_run(Status.RUNNING, tags=["u"])
    first = ask(api, "runs", tags="t,u")
    assert [row["id"] for row in rows(first)] == [str(mine.id)]
    new = make_run(Status.QUEUED, tags=["u", "t"])
    assert str(new.id) in [row["id"] for row in rows(ask(api, "runs", first, tags="t,u"))]
    assert rows(ask(api, "runs", tags="none")) == []


def test_runs_of_a_batch(api):
    batch, run = Batch.objects.create(environment_id=make_run().environment_id, run_count=1), make_run(Status.COMPLETED)
    BatchItem.objects.create(batch=batch, index=0, run=run.id)
    assert [row["id"] for row in rows(ask(api, f"batches/batch_{batch.id}"))] == [str(run.id)]


def test_of_runs_that_are_not_new_no_payload_is_read(api, monkeypatch):
    monkeypatch.setattr(realtime.RealtimeRuns, "held", 0.1)
    make_run(Status.COMPLETED, tags=["t"])
    first = ask(api, "runs", tags="t")
    with plans.noted() as made:
        assert rows(ask(api, "runs", first, tags="t")) == []
    assert made
    assert not [statement for statement, _ in made if '"payload"' in statement or '"result"' in statement]
    with plans.noted() as made:
        ask(api, "runs", tags="t", skipColumns="payload,output")
    assert not [statement for statement, _ in made if '"payload"' in statement or '"result"' in statement]


def test_columns_can_be_left_out(api):
    run = make_run(Status.COMPLETED)
    assert "payload" not in rows(ask(api, run_path(run), skipColumns="payload,output"))[0]
    refused = ask(api, run_path(run), skipColumns="id")
    assert (refused.status, refused.body["code"]) == (400, "bad_input")


def test_who_has_another_shape_begins_again(api):
    run = make_run(Status.COMPLETED)
    answer = ask(api, run_path(run), offset="1_1", handle="another")
    assert (answer.status, answer.body) == (409, [{"headers": {"control": "must-refetch"}}])
    assert answer.headers["electric-handle"] == str(run.id)


@pytest.mark.parametrize("offset", ["x", "1", "1_x", "9" * 30 + "_1", "-2"])
def test_an_offset_that_is_none_is_refused(api, offset):
    answer = ask(api, run_path(make_run(Status.COMPLETED)), offset=offset)
    assert (answer.status, answer.body["code"]) == (400, "bad_input")


@pytest.mark.parametrize("query", ["", "tags=", "tags=a%00b", "tags=" + ",".join("abcdefghijkl"), "tags=a&createdAt=x"])
def test_tags_that_are_none_are_refused(api, query):
    answer = api.get(f"/realtime/v1/runs?{query}")
    assert (answer.status, answer.body["code"]) == (400, "bad_input")
