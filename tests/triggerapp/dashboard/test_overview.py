"""The pages beside the runs."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import fresh, make_event, make_event_wait, make_run, make_wait, make_worker
from tests.inprocess import durable
from triggerapp.dashboard import overviews
from triggerapp.engine import (
    audit,
    catalog,
    deployments,
    destinations,
    environments,
    envvars,
    events,
    keys,
    schedules,
    webhooks,
)
from triggerapp.engine import workers as engine_workers
from triggerapp.engine.deployments import Build
from triggerapp.engine.schedules import Plan
from triggerapp.models import AuditEntry, Event, Queue, Run, Start, Status, WaitKind

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
PAGES = (
    "runs",
    "waits",
    "events",
    "tasks",
    "queues",
    "workers",
    "bulk",
    "webhooks",
    "destinations",
    "schedules",
    "versions",
    "variables",
    "metrics",
    "keys",
    "tokens",
    "audit",
)


def page(client, path):
    response = client.get(f"/triggers/{path}")
    assert response.status_code == 200
    return response.content.decode()


@durable
def greet(name: str, times: int = 1) -> str:
    return name * times


@durable
def log_in(user: str, password: str) -> None:
    """Says nothing."""


@durable
def anything(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize("path", PAGES)
def test_each_page_without_rows_says_so(administrator, path):
    assert "empty" in page(administrator, f"{path}/") or path in ("tasks", "queues")


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_a_page_costs_as_many_queries_for_many_rows_as_for_one(administrator, path):
    def fill(count):
        for n in range(count):
            run = make_run(Status.WAITING, queue=f"queue {n}")
            make_event_wait(run, f"event {n}")
            make_event(f"event {n}")
            audit.record(environments.current(), "somebody", "deed", n)
            keys.create("dev", f"key {n}")
            webhooks.create("dev", f"shop-{n}-{count}", preset="standard")
            destinations.create("dev", f"ops-{n}-{count}", "https://example.org/")
            envvars.put(environments.current(), f"NAME_{n}", "value")
            deployments.register(environments.current(), Build(version=f"v{n}-{count}"))
            plan = Plan(task=greet.name, cron="0 9 * * *")
            schedules.create(environments.current(), plan, deduplication_key=f"{n} {count}")

    fill(1)
    with CaptureQueriesContext(connection) as one:
        page(administrator, f"{path}/")
    fill(20)
    with CaptureQueriesContext(connection) as many:
        page(administrator, f"{path}/")
    assert len(many) == len(one) <= 12


@pytest.mark.parametrize("path", PAGES)
def test_text_of_any_kind_stays_text(administrator, path):
    run = make_run(Status.WAITING, task=EVIL, tags=[EVIL], queue=EVIL)
    make_event_wait(run, EVIL, {"k": [EVIL]})
    make_event(EVIL, {EVIL: EVIL}, external_id=EVIL)
    audit.record(environments.current(), EVIL, "deed", EVIL, after={EVIL: EVIL})
    text = page(administrator, f"{path}/?name=&target=")
    assert "<script>alert" not in text
    assert "<img" not in text


def test_waits_are_those_of_suspended_runs_and_can_be_chosen_by_kind_and_event(viewer):
    waiting = make_event_wait(make_run(Status.WAITING), "paid")
    token = make_wait(make_run(Status.WAITING), WaitKind.TOKEN, key="token#1")
    over = make_run(Status.COMPLETED)
    make_wait(over, status="resolved")
    text = page(viewer, "waits/")
    assert str(waiting.run_id) in text
    assert str(token.run_id) in text
    assert str(over.id) not in text
    assert str(token.run_id) not in page(viewer, "waits/?kind=event&name=paid")


def test_waits_are_paged(viewer, monkeypatch):
    monkeypatch.setattr(overviews, "PAGE", 2)
    for n in range(3):
        make_event_wait(make_run(Status.WAITING), f"e{n}")
    first = viewer.get("/triggers/waits/").context
    second = viewer.get(f"/triggers/waits/?{first['older']}").context
    assert [row["name"] for row in [*first["found"].rows, *second["found"].rows]] == ["e2", "e1", "e0"]


@pytest.mark.parametrize("name", ["", "paid"])
def test_events_are_paged_newest_first(viewer, monkeypatch, name):
    monkeypatch.setattr(overviews, "PAGE", 2)
    made = [str(make_event("paid", n).id) for n in range(3)]
    first = viewer.get(f"/triggers/events/?name={name}").context
    second = viewer.get(f"/triggers/events/?{first['older']}").context
    assert [str(row["id"]) for row in [*first["found"].rows, *second["found"].rows]] == made[::-1]


@pytest.mark.parametrize("name", ["", "paid"])
def test_a_search_for_what_reached_nobody_goes_on_where_it_ended(viewer, monkeypatch, name):
    monkeypatch.setattr(overviews, "SEARCHED", 2)
    lost = make_event("paid")
    make_event("paid", status="scheduled")
    for _ in range(2):
        make_wait(make_run(Status.COMPLETED), WaitKind.EVENT, event=make_event("paid").id)
    first = viewer.get(f"/triggers/events/?name={name}&unmatched=1")
    assert "Looked at events back to" in first.content.decode()
    second = viewer.get(f"/triggers/events/?{first.context['older']}").context["found"]
    assert ([], [lost.id]) == ([*first.context["found"].rows], [row["id"] for row in second.rows])


def test_an_event_shows_the_waits_that_it_reached(viewer):
    wait = make_event_wait(make_run(Status.WAITING), "paid", {"order": ["o1"]})
    emitted = events.emit("paid", '{"order": "o1", "secret": "x1y2z3"}')
    text = page(viewer, f"events/{emitted.id}/")
    assert str(wait.run_id) in text
    assert "x1y2z3" not in text
    assert "No wait matched it yet" in page(viewer, f"events/{make_event('other').id}/")


def test_an_event_shows_the_runs_that_it_started_and_the_run_the_event(viewer):
    event, run = make_event("paid"), make_run()
    for task, started, error in (("shop.buy", run.pk, ""), ("shop.sell", None, f"no such task {EVIL}")):
        Start.objects.create(environment_id=run.environment_id, event=event, task=task, run=started, error=error)
    text = page(viewer, f"events/{event.pk}/")
    assert f"/triggers/runs/{run.pk}/" in text
    assert "no such task" in text
    assert EVIL not in text
    assert f"/triggers/events/{event.pk}/" in page(viewer, f"runs/{run.pk}/")
    assert "1 wait" not in page(viewer, "events/")
    assert "2 tasks" in page(viewer, "events/")


def test_events_that_reached_nobody_can_be_chosen(viewer):
    make_event_wait(make_run(Status.WAITING), "paid")
    events.emit("paid", "{}")
    events.emit("sold", "{}")
    for query in ("unmatched=1", "unmatched=1&name=sold"):
        assert [row["name"] for row in viewer.get(f"/triggers/events/?{query}").context["found"].rows] == ["sold"]
    assert "nobody yet" in page(viewer, "events/")


def test_an_event_is_sent_once_more_as_a_new_one(operator, viewer):
    event = make_event("paid", {"n": 1}, external_id="e1")
    url = f"/triggers/events/{event.pk}/replay"
    assert viewer.post(url).status_code == 403
    response = operator.post(url)
    again = Event.objects.exclude(pk=event.pk).get()
    assert response.headers["Location"] == f"/triggers/events/{again.pk}/"
    assert (again.name, again.payload, again.external_id) == ("paid", {"n": 1}, None)
    assert AuditEntry.objects.get(action="event.replay").target == str(event.pk)
    Event.objects.filter(pk=event.pk).update(status="canceled")
    assert operator.post(url).status_code == 400
    assert operator.post(f"/triggers/events/{make_run().pk}/replay").status_code == 404


def test_an_event_can_be_sent_by_hand_once_for_each_id_of_its_sender(operator):
    for _ in range(2):
        form = {"environment": "dev", "name": "paid", "id": "e1", "payload": '{"n": 1}'}
        assert operator.post("/triggers/events/send", form).status_code == 302
    assert Event.objects.get().payload == {"n": 1}


@pytest.mark.parametrize("form", [{"name": ""}, {"name": "x" * 300}, {"name": "x", "payload": "{"}, {"name": "a\0"}])
def test_an_event_that_cannot_be_is_refused(operator, form):
    assert operator.post("/triggers/events/send", form).status_code == 400
    assert Event.objects.count() == 0


def test_an_event_sent_by_hand_is_noted_once_and_in_its_environment(operator):
    environments.by_slug("staging")
    form = {"name": "paid", "id": "e1", "environment": "staging"}
    for _ in range(2):
        operator.post("/triggers/events/send", form)
    sent, (noted,) = Event.objects.get(), AuditEntry.objects.filter(action="event.send")
    assert (noted.environment_id, noted.target) == (sent.environment_id, str(sent.id))
    assert sent.environment_id == environments.by_slug("staging")
    assert noted.actor == "user operator"
    refused = operator.post("/triggers/events/send", {**form, "environment": "nowhere"})
    assert (refused.status_code, "environment must be" in refused.content.decode()) == (400, True)


def test_queues_show_what_is_in_them_and_are_paused_by_administrators_only(administrator, operator):
    run = make_run(Status.PENDING, queue="slow")
    make_run(Status.RUNNING, queue="slow")
    queue = Queue.objects.get(name="slow")
    row = next(row for row in administrator.get("/triggers/queues/").context["rows"] if row.name == "slow")
    assert (row.running, row.queued, row.oldest) == (1, 1, run.created_at)
    url = f"/triggers/queues/{queue.pk}/pause"
    assert operator.post(url, {"paused": "1"}).status_code == 403
    administrator.post(url, {"paused": "1"})
    assert fresh(queue).paused
    assert "Resume" in page(administrator, "queues/")
    administrator.post(url, {"paused": "0"})
    assert not fresh(queue).paused
    assert fresh(run).status == Status.QUEUED
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == ["queue.pause", "queue.resume"]


def test_workers_are_alive_or_gone_by_their_heartbeat(viewer):
    make_worker()
    make_worker(alive=False)
    text = page(viewer, "workers/")
    assert "alive" in text
    assert "gone" in text


def test_a_worker_says_how_its_runs_wait_and_why(viewer):
    engine_workers.describe(make_worker(), waiting="by re-entry: no CRIU was found")
    assert "by re-entry: no CRIU was found" in page(viewer, "workers/")


def test_the_audit_log_says_who_did_what(administrator):
    audit.record(environments.current(), "user eve", "queue.pause", "slow", after={"paused": True})
    audit.record(None, "user bob", "other", "else")
    text = page(administrator, "audit/?target=slow")
    assert "user eve" in text
    assert "user bob" not in text


def test_tasks_are_listed_with_their_arguments(operator):
    text = page(operator, "tasks/")
    assert greet.name in text
    assert "times:" in text
    assert catalog.durable_task("celery.map")  # which is durable too, and nothing to trigger by hand
    assert "celery.map" not in text


def test_a_task_is_tried_with_a_form_made_from_its_signature(operator, worker):
    url = f"/triggers/tasks/{greet.name}/test"
    names = [field.name for field in operator.get(url).context["fields"]]
    assert names == ["name", "times"]
    response = operator.post(url, {"arg-name": "Eve", "arg-times": "2", "tags": "a, b", "idempotency_key": "k"})
    run = Run.objects.get()
    assert response.headers["Location"] == f"/triggers/runs/{run.id}/"
    assert run.tags == ["a", "b"]
    worker.work()
    assert json.loads(bytes(fresh(run).result)) == "EveEve"
    assert AuditEntry.objects.get(action="task.trigger").actor == "user operator"
    again = operator.get(f"{url}?from={run.id}")
    assert [field.value for field in again.context["fields"]] == ["Eve", "2"]


def test_a_secret_of_an_earlier_run_is_neither_shown_nor_lost(operator):
    url = f"/triggers/tasks/{log_in.name}/test"
    operator.post(url, {"arg-user": "Eve", "arg-password": "hunter2"})
    again = f"{url}?from={Run.objects.get().id}"
    assert "hunter2" not in operator.get(again).content.decode()
    filled = {f"arg-{field.name}": field.value for field in operator.get(again).context["fields"]}
    operator.post(again, {**filled, "arg-user": "Bob"})
    newest = Run.objects.order_by("-created_at").first()
    assert json.loads(bytes(newest.payload))[1] == {"user": "Bob", "password": "hunter2"}


def test_a_task_that_takes_anything_takes_json(operator):
    url = f"/triggers/tasks/{anything.name}/test"
    assert operator.get(url).context["fields"] is None
    operator.post(url, {"raw": '{"args": [1], "kwargs": {"b": 2}}'})
    assert json.loads(bytes(Run.objects.get().payload))[:2] == [[1], {"b": 2}]


def test_a_secret_in_the_payload_of_an_earlier_run_is_neither_shown_nor_lost(operator):
    url = f"/triggers/tasks/{anything.name}/test"
    payload = {"args": [1, {"password": "hunter2"}], "kwargs": {"password": "hunter3", "b": 2}}
    operator.post(url, {"raw": json.dumps(payload)})
    again = f"{url}?from={Run.objects.get().id}"
    raw = operator.get(again).context["raw"]
    assert "hunter" not in raw
    operator.post(again, {"raw": raw.replace("2", "3")})
    newest = Run.objects.order_by("-created_at").first()
    assert json.loads(bytes(newest.payload))[:2] == [[1, {"password": "hunter2"}], {"password": "hunter3", "b": 3}]


def test_an_earlier_run_without_arguments_is_no_mistake(operator):
    url = f"/triggers/tasks/{anything.name}/test"
    operator.post(url, {"raw": '{"args": [], "kwargs": {}}'})
    again = operator.get(f"{url}?from={Run.objects.get().id}")
    assert json.loads(again.context["raw"]) == {"args": [], "kwargs": {}}
    assert again.context["wrong"] == []


def test_a_form_takes_nothing_of_a_run_of_another_task_or_environment(operator):
    url = f"/triggers/tasks/{log_in.name}/test"
    form = {"arg-user": "Eve", "arg-password": "hunter2"}
    operator.post(url, form)
    run = Run.objects.get()
    other = f"/triggers/tasks/{anything.name}/test?from={run.id}"
    assert json.loads(operator.get(other).context["raw"]) == {"args": [], "kwargs": {}}
    operator.post(other, {"raw": '{"args": [], "kwargs": {"password": "(hidden)"}}'})
    assert "hunter2" not in bytes(Run.objects.order_by("-created_at").first().payload).decode()
    elsewhere = environments.by_slug("elsewhere")
    Run.objects.filter(pk=run.pk).update(environment=elsewhere)
    assert [field.value for field in operator.get(f"{url}?from={run.id}").context["fields"]] == ["", ""]


@pytest.mark.parametrize("form", [{"arg-name": "x", "arg-times": "{"}, {"arg-name": "x", "delay": "soon"}])
def test_what_a_form_cannot_mean_is_refused_and_there_is_no_run(operator, form):
    response = operator.post(f"/triggers/tasks/{greet.name}/test", form)
    assert response.status_code == 400
    assert Run.objects.count() == 0


def test_a_task_that_is_none_is_not_found(operator):
    assert operator.get("/triggers/tasks/no.such/test").status_code == 404
