"""The list of runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import make_event_wait, make_run
from tests.inprocess import durable
from triggerapp.clock import now
from triggerapp.dashboard import queries
from triggerapp.dashboard.filters import RunFilter
from triggerapp.engine import environments, schedules
from triggerapp.engine.schedules import Plan
from triggerapp.engine.selection import Cursor
from triggerapp.models import Batch, BatchItem, Firing, Status
from triggerapp.templatetags.triggers import duration

URL = "/triggers/runs/"


def shown(client, query=""):
    """The ids of the runs that the page shows, from top to bottom."""
    response = client.get(URL + query)
    assert response.status_code == 200
    return [row.id for row in response.context["found"].rows]


def test_the_newest_run_is_on_top(viewer):
    old = make_run(created_at=now() - timedelta(hours=2))
    new = make_run(Status.COMPLETED)
    assert shown(viewer) == [new.id, old.id]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("?status=failed", {"status": Status.FAILED}),
        ("?status=failed&status=waiting", {"status": Status.WAITING}),
        ("?task=shop.buy", {"task": "shop.buy"}),
        ("?queue=slow", {"queue": "slow"}),
        ("?tag=user:7", {"tags": ["red", "user:7"]}),
        ("?version=20261122.1", {"version": "20261122.1"}),
        ("?period=all", {"age": timedelta(days=20), "status": Status.EXPIRED}),
        ("?period=1h&status=canceled", {"status": Status.CANCELED}),
    ],
)
def test_each_filter_of_the_url_finds_what_it_names(viewer, query, fields):
    status = fields.pop("status", Status.QUEUED)
    wanted = make_run(status, created_at=now() - fields.pop("age", timedelta()), **fields)
    other = make_run(Status.COMPLETED, created_at=now() - timedelta(hours=3))
    found = shown(viewer, query)
    assert wanted.id in found
    assert (other.id in found) == (query == "?period=all")


def test_root_only_leaves_children_out(viewer):
    root = make_run()
    make_run(root=root, parent=root, parent_key="child#1")
    assert shown(viewer, "?root=1") == [root.id]


def test_the_beginning_of_an_id_a_whole_id_and_a_task_id_find_the_run(viewer):
    run = make_run(task_id="order-7")
    make_run()
    for text in (str(run.id), f"run_{run.id}", run.id.hex[:30], "order-7"):
        assert shown(viewer, f"?text={text}") == [run.id], text


def test_runs_of_another_environment_are_shown_on_request_only(viewer):
    run = make_run(environment_id=environments.by_slug("elsewhere"))
    assert shown(viewer) == []
    assert shown(viewer, "?environment=elsewhere") == [run.id]


def test_pages_follow_one_another_without_gap_or_repetition(viewer, monkeypatch):
    monkeypatch.setattr(queries, "PAGE", 3)
    monkeypatch.setattr(queries.runs, "__kwdefaults__", {"older_than": None, "limit": 3})
    made = [make_run(created_at=now() - timedelta(minutes=n // 2)).id for n in range(8)]
    seen, query = [], ""
    while True:
        response = viewer.get(URL + query)
        seen += [row.id for row in response.context["found"].rows]
        if not response.context["older"]:
            break
        query = f"?{response.context['older']}"
    assert len(seen) == 8
    assert set(seen) == set(made)


def test_a_search_that_no_index_answers_ends_somewhere_and_can_be_continued(database, monkeypatch):
    monkeypatch.setattr(queries, "SEARCHED", 5)
    wanted = make_run(task="rare", created_at=now() - timedelta(hours=1))
    for _ in range(6):
        make_run()
    rare = RunFilter(task="rare", environment="dev")
    first = queries.runs(rare)
    assert first.rows == []
    assert first.searched_up_to is not None
    second = queries.runs(rare, older_than=first.older)
    assert [row.id for row in second.rows] == [wanted.id]
    assert second.older is None


@durable
def daily() -> None:
    """Does nothing."""


def test_the_runs_of_an_old_batch_or_schedule_are_found_however_many_came_since(database, monkeypatch):
    monkeypatch.setattr(queries, "SEARCHED", 1)
    old, here = make_run(created_at=now() - timedelta(days=90)), environments.current()
    batch = Batch.objects.create(environment_id=here, run_count=1)
    BatchItem.objects.create(batch=batch, index=0, run=old.id)
    schedule = schedules.create(here, Plan(task=daily.name, cron="0 9 * * *"), deduplication_key="daily")
    for run, hours in ((old.id, 1), (None, 2)):
        Firing.objects.create(schedule_id=schedule.pk, due_at=now() - timedelta(hours=hours), run=run)
    make_run()
    for chosen in ({"batch": str(batch.pk)}, {"schedule": str(schedule.pk)}):
        found = queries.runs(RunFilter(period="all", environment="dev", **chosen))
        assert ([row.id for row in found.rows], found.searched_up_to) == ([old.id], None)


def test_without_runs_the_page_says_so_and_what_to_do(viewer):
    assert "No runs in the last 7 days" in viewer.get(URL).content.decode()
    assert "No run matches" in viewer.get(URL + "?task=none").content.decode()


@pytest.mark.parametrize(
    "query", ["?older=rubbish", "?period=never&status=odd", "?text=%00", "?environment=none", "?tag=%00x"]
)
def test_what_makes_no_sense_in_a_url_is_left_out(viewer, query):
    assert viewer.get(URL + query).status_code == 200


def test_newer_runs_are_announced_and_counted_under_the_same_filter(viewer):
    run = make_run(created_at=now() - timedelta(minutes=1))
    make_run(task="other")
    newer = viewer.get(URL).context["newer"]
    assert "new run" not in viewer.get(f"/triggers/runs/new?{newer}").content.decode()
    make_run()
    assert "1 new run" in viewer.get(f"/triggers/runs/new?{newer}").content.decode()
    than = f"task={run.task}&than={Cursor(run.created_at, run.id)}"
    assert "1 new run" in viewer.get(f"/triggers/runs/new?{than}").content.decode()


def test_a_waiting_run_says_what_it_waits_for(viewer):
    make_event_wait(make_run(Status.WAITING), "cart/checked-out")
    assert "cart/checked-out" in viewer.get(URL).content.decode()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.25, "250 ms"),
        (2, "2.0 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3613, "1 h"),
        (3661, "1 h 1 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_duration_has_two_units_at_most_and_none_of_nothing(seconds, shown):
    assert duration(timedelta(seconds=seconds)) == shown


def test_the_list_costs_as_many_queries_for_fifty_runs_as_for_one(viewer):
    make_run(Status.WAITING)
    with CaptureQueriesContext(connection) as one:
        viewer.get(URL)
    for _ in range(49):
        make_run(Status.WAITING)
    with CaptureQueriesContext(connection) as many:
        viewer.get(URL)
    assert len(many) == len(one) <= 10


def test_a_database_that_is_away_is_said_in_a_sentence(viewer, monkeypatch):
    from django.db import OperationalError

    def fail(*_, **__):
        raise OperationalError("gone")

    monkeypatch.setattr(queries, "runs", fail)
    response = viewer.get(URL)
    assert response.status_code == 503
    assert "The database does not answer" in response.content.decode()


@pytest.mark.parametrize("query", ["?status=bogus", "?status=%00", "?batch=rubbish", "?schedule=rubbish"])
def test_what_no_run_can_have_shows_none_and_nothing_to_do_with_all(operator, query):
    make_run()
    assert shown(operator, query) == []
    assert "all that match" not in operator.get(URL + query).content.decode()


def test_a_status_that_is_none_is_named_beside_those_that_are(operator):
    run = make_run(Status.WAITING)
    assert shown(operator, "?status=bogus&status=waiting&status=<b>") == [run.id]
    page = operator.get(URL + "?status=<b>&status=waiting").content.decode()
    assert "There is no status “&lt;b&gt;”" in page
    assert 'name="verb"' not in page
