"""One event starts every task that is subscribed to it, once, whoever accepts it and whatever dies in between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command

from tests.factories import make_event
from tests.inprocess import Worker, app, at_once, durable, forward
from triggerapp import failpoints
from triggerapp.engine import environments, events, subscriptions
from triggerapp.engine.subscriptions import Wanted
from triggerapp.errors import BadInput
from triggerapp.models import AuditEntry, Event, Run, Start, Subscription
from workers import events as api
from workers import webhook
from workers.subscribing import listed
from workers.task import durable_task

pytestmark = pytest.mark.usefixtures("database")


@dataclass
class User:
    id: int


@durable
def welcome(id: int, email: str = "") -> list[Any]:
    return [id, email]


@durable
def whole(payload: Any) -> Any:
    return payload


@durable(bind=True)
def bound(self: Any, payload: Any) -> Any:
    return payload


@durable
def schema(payload: User) -> int:
    return payload["id"]  # type: ignore[index]


def subscribe(*wanted: tuple[Any, str, Any]) -> None:
    subscriptions.renew("tests", [Wanted(task=task.name, name=name, filter=filter) for task, name, filter in wanted])


def emit(name: str, payload: object = None, **fields: Any) -> Event:
    return Event.objects.get(pk=events.emit(name, json.dumps(payload), **fields).id)


def started(event: Event) -> dict[str, Any]:
    """What each run that the event started returned."""
    rows = Start.objects.filter(event=event)
    return {row.task: row.run and json.loads(bytes(Run.objects.get(pk=row.run).result)) for row in rows}


# --- starting -------------------------------------------------------------------------------------


def test_an_event_starts_every_task_that_is_subscribed_to_its_name(worker: Worker):
    subscribe((welcome, "user/created", {}), (whole, "user/created", {}), (bound, "user/deleted", {}))
    event = emit("user/created", {"id": 7, "email": "a@b.c"})
    worker.tick()
    assert started(event) == {welcome.name: [7, "a@b.c"], whole.name: {"id": 7, "email": "a@b.c"}}


def test_only_where_the_filter_matches(worker: Worker):
    subscribe((whole, "paid", {"total": {"$gt": 10}}), (bound, "paid", {"total": [3]}))
    event = emit("paid", {"total": 11})
    worker.tick()
    assert started(event) == {whole.name: {"total": 11}}


def test_a_task_that_is_subscribed_twice_is_started_once(worker: Worker):
    subscribe((whole, "paid", {"total": {"$gt": 10}}), (whole, "paid", {"total": {"$gt": 5}}))
    emit("paid", {"total": 11})
    worker.tick()
    worker.tick()
    assert Run.objects.count() == 1


def test_the_same_event_sent_again_starts_nothing(worker: Worker):
    subscribe((whole, "paid", {}))
    for _ in range(3):
        emit("paid", external_id="order-1")
        worker.tick()
    assert Run.objects.count() == 1


def test_many_tickers_at_once_start_each_task_once():
    subscribe((whole, "paid", {}))
    for n in range(30):
        emit("paid", n)
    at_once(*[subscriptions.start_due] * 6)
    while subscriptions.start_due():
        pass
    assert Run.objects.count() == Start.objects.filter(run__isnull=False).count() == 30


def test_an_event_of_another_environment_starts_nothing_here(worker: Worker):
    subscribe((whole, "paid", {}))
    emit("paid", environment=environments.by_slug("prod"))
    worker.tick()
    assert not Run.objects.exists()


def test_a_webhook_task_takes_one_type_or_all_of_an_endpoint(worker: Worker):
    one, every = webhook("stripe", "invoice.paid"), webhook("stripe")
    subscribe((whole, one.name, {}), (bound, every.name, {}))
    first, second = emit("webhook/stripe/invoice.paid", 1), emit("webhook/stripe/customer/created", 2)
    emit("webhook/github/push", 3)
    worker.tick()
    assert (started(first), started(second)) == ({whole.name: 1, bound.name: 1}, {bound.name: 2})


def test_a_task_that_this_app_has_not_waits_for_a_worker_that_has(worker: Worker):
    subscriptions.renew("another", [Wanted(task="another.task", name="paid")])
    subscribe((whole, "paid", {}))
    event = emit("paid", 1)
    worker.tick()
    assert started(event) == {whole.name: 1, "another.task": None}

    def late(payload: Any) -> Any:
        return payload

    durable_task(app.task(name="another.task")(late))
    worker.tick()
    assert started(event)["another.task"] == 1


@pytest.mark.parametrize(
    ("task", "payload", "says"),
    [
        (welcome, {"id": 1, "name": "x"}, "name"),
        (welcome, {}, "id"),
        (schema, {"nr": 1}, "nr"),
        (schema, 3, "fields of User"),
    ],
)
def test_a_payload_that_does_not_fit_starts_no_run_and_says_why(worker: Worker, task, payload, says):
    subscribe((task, "user/created", {}), (whole, "user/created", {}))
    event = emit("user/created", payload)
    worker.tick()
    assert says in Start.objects.get(event=event, task=task.name).error
    assert started(event)[whole.name] == payload


class Power(BaseException):
    """It went."""


@pytest.mark.parametrize("where", ["start.before_commit", "trigger.before_commit", "trigger.after_commit"])
def test_what_dies_before_the_commit_has_started_nothing_and_starts_it_next_time(where, monkeypatch):
    def die(name: str) -> None:
        raise Power(name)

    subscribe((whole, "paid", {}))
    emit("paid")
    monkeypatch.setitem(failpoints._ACTIONS, "raise", die)
    failpoints.load(f"{where}:raise@1")
    try:
        with pytest.raises(Power):
            subscriptions.start_due()
    finally:
        failpoints.load("")
    assert not Run.objects.exists()
    subscriptions.start_due()
    assert Run.objects.count() == Start.objects.count() == 1


def test_a_start_of_another_apps_task_costs_a_tick_one_look(django_assert_num_queries):
    subscriptions.renew("another", [Wanted(task="another.apps", name="paid")])
    emit("paid")
    with django_assert_num_queries(1):
        assert subscriptions.start_due() == 0
    assert Start.objects.count() == 1


def test_an_event_outlives_its_retention_until_its_tasks_are_started():
    subscriptions.renew("another", [Wanted(task="another.task", name="paid")])
    emit("paid")
    make_event("old", age=timedelta(days=8))
    forward(days=8)
    events.prune()
    assert [event.name for event in Event.objects.all()] == ["paid"]
    forward(days=23)
    events.prune()
    assert not Event.objects.exists()
    assert not Start.objects.exists()


# --- what is subscribed ---------------------------------------------------------------------------


@pytest.fixture
def subscribed(worker: Worker):
    """A task that says so in its code."""

    def body(payload: Any) -> Any:
        return payload

    task = app.task(name="tests.subscribed")(body)
    durable_task(on=[api.on("user/created", filter={"id": [7]}), webhook("stripe", "invoice.paid")])(task)
    yield task
    del app.tasks[task.name]


def rows() -> set[tuple[str, str]]:
    return set(Subscription.objects.filter(app="tests").values_list("task", "name"))


def test_a_worker_keeps_the_rows_that_its_code_says(worker: Worker, subscribed):
    worker.tick()
    worker.tick()
    wanted = {("tests.subscribed", "user/created"), ("tests.subscribed", "webhook/stripe/invoice.paid")}
    assert rows() == wanted
    event = emit("user/created", {"id": 7})
    worker.tick()
    assert started(event) == {"tests.subscribed": {"id": 7}}


def test_what_the_code_dropped_goes_when_no_worker_has_said_it_for_a_while(worker: Worker, subscribed):
    subscriptions.renew("tests", [Wanted(task="tests.gone", name="a")])
    subscriptions.renew("another app", [Wanted(task="b", name="b")])
    worker.tick()
    assert len(rows()) == 3
    forward(minutes=11)
    worker.tick()
    assert len(rows()) == 3, "this ticker has not been here long enough to know that nobody says it"
    worker.ticker._began -= 11 * 60
    worker.tick()
    assert {task for task, _ in rows()} == {"tests.subscribed"}
    assert Subscription.objects.filter(app="another app").exists()


def test_a_worker_with_older_code_takes_nothing_back_that_newer_code_says(worker: Worker):
    worker.ticker._began -= 11 * 60
    subscriptions.renew("tests", [Wanted(task="tests.new", name="a")])
    worker.tick()
    assert rows() == {("tests.new", "a")}


def test_the_command_shows_them_and_takes_them_from_the_code_at_once(subscribed, capsys):
    subscriptions.renew("tests", [Wanted(task="tests.gone", name="a")])
    call_command("subscriptions", "--sync", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in shown} == {"user/created", "webhook/stripe/invoice.paid"}
    assert AuditEntry.objects.get().action == "subscription.sync"
    call_command("subscriptions")
    assert "user/created" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make",
    [
        lambda: api.on(""),
        lambda: api.on("a\0b"),
        lambda: api.on("a", filter={"$gt": 1}),
        lambda: api.on("a", filter={"b": {"$near": 1}}),
        lambda: webhook("No Name"),
        lambda: webhook("a", "x" * 300),
    ],
)
def test_a_subscription_that_cannot_be_is_refused_where_it_stands(make):
    with pytest.raises(BadInput):
        make()


def test_on_takes_subscriptions_only():
    with pytest.raises(TypeError, match=r"events\.on"):
        listed(["user/created"])  # type: ignore[list-item]
    assert listed(None) == ()
