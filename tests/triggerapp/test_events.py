"""An event accepted reaches every wait that matches it, opened before or after it, once per wait."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import for_event, fresh, large, make_event, make_run, make_waiting
from tests.inprocess import at_once, forward
from triggerapp.engine import environments, events, waits
from triggerapp.engine.waits import Resolution, Suspended
from triggerapp.errors import BadInput
from triggerapp.models import Event, FilterShape, Status, Wait, WaitStatus

pytestmark = pytest.mark.usefixtures("database")


def emit(name: str, payload: object = None, **fields) -> Event:
    return Event.objects.get(pk=events.emit(name, json.dumps(payload), **fields).id)


def open_wait(name: str = "paid", filter=None, *, run=None, **fields) -> Resolution | Suspended:
    return waits.suspend((run or make_run(Status.RUNNING)).id, for_event(name, filter, **fields), lease=1)


# --- the wait came first --------------------------------------------------------------------------


def test_an_event_wakes_the_runs_whose_filter_it_matches_and_no_others():
    hit = [make_waiting("paid", {"id": [7]}), make_waiting("paid"), make_waiting("paid", {"total": [{"$gt": 10}]})]
    missed = [make_waiting("paid", {"id": [8]}), make_waiting("shipped", {"id": [7]})]
    event = emit("paid", {"id": 7, "total": 11})
    assert {fresh(wait).event for wait in hit} == {event.id}
    assert {fresh(wait.run).status for wait in hit} == {Status.QUEUED}
    assert {fresh(wait).status for wait in missed} == {WaitStatus.PENDING}


def test_the_wait_gets_the_event_with_id_name_and_payload():
    wait = make_waiting("paid")
    event = emit("paid", {"id": 7, "who": "ünïcode"})
    assert json.loads(fresh(wait).value) == {
        "id": str(event.id),
        "name": "paid",
        "payload": {"id": 7, "who": "ünïcode"},
    }


def test_names_match_exactly():
    wait = make_waiting("cart/paid")
    for name in ("cart/Paid", "cart/paid ", "cart", "cart/paid/late"):
        emit(name)
    assert fresh(wait).status == WaitStatus.PENDING


def test_events_of_another_environment_are_not_ours():
    wait = make_waiting("paid")
    emit("paid", environment=environments.by_slug("prod"))
    assert fresh(wait).status == WaitStatus.PENDING


def test_an_event_remembers_the_run_that_sent_it():
    run = make_run(Status.RUNNING)
    assert emit("paid", run_id=run.id).source_run == run.id


# --- the event came first -------------------------------------------------------------------------


def test_an_event_that_came_before_the_wait_is_found_at_once():
    event = make_event("paid", {"id": 7}, age=timedelta(minutes=59))
    run = make_run(Status.RUNNING)
    found = open_wait(filter={"id": [7]}, run=run)
    assert isinstance(found, Resolution)
    assert found.event == event.id
    assert (fresh(run).status, Wait.objects.get().status) == (Status.RUNNING, WaitStatus.RESOLVED)


def test_an_event_that_came_longer_ago_than_the_lookback_is_not():
    make_event("paid", age=timedelta(minutes=61))
    assert isinstance(open_wait(), Suspended)
    assert isinstance(open_wait(lookback=timedelta(hours=2)), Resolution)


def test_a_lookback_of_nothing_takes_only_what_comes_later():
    make_event("paid")
    run = make_run(Status.RUNNING)
    assert isinstance(open_wait(run=run, lookback=timedelta()), Suspended)
    emit("paid")
    assert fresh(run).status == Status.QUEUED


def test_the_oldest_event_that_matches_is_taken():
    events_sent = [make_event("paid", {"n": n}, age=timedelta(minutes=10 - n)) for n in range(3)]
    found = open_wait(filter={"n": [{"$gte": 1}]})
    assert isinstance(found, Resolution)
    assert found.event == events_sent[1].id


def test_one_event_does_not_serve_two_waits_of_one_run():
    first, second = make_event("paid", 1, age=timedelta(minutes=2)), make_event("paid", 2)
    run = make_run(Status.RUNNING)
    found = [open_wait(run=run, key=f"for_event:paid#{n}") for n in (1, 2, 3)]
    assert [getattr(each, "event", None) for each in found] == [first.id, second.id, None]


def test_one_event_serves_the_waits_of_many_runs():
    make_event("paid")
    assert all(isinstance(open_wait(), Resolution) for _ in range(3))


def test_an_event_that_meets_the_opening_of_its_wait_is_never_lost():
    runs = [make_run(Status.RUNNING) for _ in range(25)]
    for n, run in enumerate(runs):
        at_once(lambda n=n: emit(f"paid{n}"), lambda n=n, run=run: open_wait(f"paid{n}", run=run))
    assert not Wait.objects.filter(status=WaitStatus.PENDING).exists()
    assert {fresh(run).status for run in runs} <= {Status.QUEUED, Status.RUNNING}


# --- the same id ----------------------------------------------------------------------------------


def test_the_same_id_twice_is_one_event():
    first = events.emit("paid", "1", external_id="evt_1")
    wait = make_waiting("paid")
    second = events.emit("paid", "2", external_id="evt_1")
    assert (second.id, first.cached, second.cached) == (first.id, False, True)
    assert fresh(wait).status == WaitStatus.PENDING
    assert Event.objects.get().payload == 1


def test_the_same_id_sent_at_once_is_one_event():
    sent = at_once(*[lambda: events.emit("paid", "1", external_id="evt_1")] * 8)
    assert len({event.id for event in sent}) == 1
    assert sum(not event.cached for event in sent) == 1


def test_the_same_id_in_another_environment_is_another_event():
    first = events.emit("paid", "1", external_id="evt_1")
    other = events.emit("paid", "1", external_id="evt_1", environment=environments.by_slug("prod"))
    assert first.id != other.id


# --- how much is touched --------------------------------------------------------------------------


def many_waits(count: int) -> None:
    """`count` runs that wait on one event name, each for its own order, as `open_wait` would leave them."""
    run = make_waiting("paid", {"order": [0]}).run
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE sig (n int, sig bigint)")
        found = [(n, events.subscribe(run.environment_id, "paid", {"order": [n]})[0]) for n in range(1, 51)]
        cursor.executemany("INSERT INTO sig VALUES (%s, %s)", found)
        cursor.execute(
            "INSERT INTO triggerapp_wait (id, environment_id, key, kind, name, filter, signatures, expires_at) "
            "SELECT gen_random_uuid(), %s, 'for_event:paid#1', 'event', 'paid', "
            "jsonb_build_object('order', jsonb_build_array(n)), "
            "ARRAY[COALESCE((SELECT sig FROM sig WHERE sig.n = g.n), -g.n)], now() + interval '1 hour' "
            "FROM generate_series(1, %s) g(n)",
            [run.environment_id, count],
        )
        cursor.execute("DROP TABLE sig; ANALYZE triggerapp_wait")


@pytest.fixture
def crowd(database):
    large.add("triggerapp_wait")
    many_waits(100_000)


@pytest.mark.slow
def test_an_event_touches_the_waits_that_match_and_not_the_hundred_thousand_that_do_not(crowd):
    with CaptureQueriesContext(connection) as captured:
        emit("paid", {"order": 7})
    assert Wait.objects.filter(status=WaitStatus.RESOLVED).count() == 1
    (search,) = [query["sql"] for query in captured if "signatures &&" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE triggerapp_wait SET status = 'pending' WHERE status = 'resolved'")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {search}")
        (plan,) = cursor.fetchone()
    plan = plan if isinstance(plan, list) else json.loads(plan)
    nodes = list(nodes_of(plan[0]["Plan"]))
    assert "wait_signatures" in [node.get("Index Name") for node in nodes]
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes) <= 2


def nodes_of(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


def test_shapes_are_few_however_many_filters_there_are():
    for n in range(20):
        make_waiting("paid", {"order": [n], "user": {"id": [n]}})
    make_waiting("paid", {"user": {"id": [1]}, "order": [1]})
    assert FilterShape.objects.filter(name="paid").count() == 1


def test_a_lookback_asks_the_index_for_the_events_that_can_match():
    for n in range(5):
        make_event("paid", {"order": n})
    with CaptureQueriesContext(connection) as captured:
        open_wait(filter={"order": [3]})
    assert any("payload @>" in query["sql"] for query in captured)


def test_time_passes_for_events_too():
    make_event("paid")
    forward(hours=2)
    assert isinstance(open_wait(), Suspended)


@pytest.mark.parametrize(
    "sent", [{"name": "n" * 256}, {"name": "a\0"}, {"external_id": "i" * 256}, {"payload": '"\\u0000"'}]
)
def test_what_postgres_cannot_store_is_bad_input_and_wakes_nobody(sent):
    wait = make_waiting("paid")
    with pytest.raises(BadInput, match="was not accepted: PostgreSQL cannot store it"):
        events.emit(**{"name": "paid", "payload": "1", **sent})
    assert fresh(wait).status == WaitStatus.PENDING
    assert not Event.objects.exists()
