"""The page of one run: what it says, and what its buttons do."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.factories import (
    fresh,
    make_event_wait,
    make_run,
    make_step,
    make_unreadable,
    make_wait,
    make_worker,
)
from tests.inprocess import durable
from triggerapp.clock import now
from triggerapp.engine import checkpoints
from triggerapp.models import AuditEntry, Checkpoint, Event, Run, Status, Step, WaitKind

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def url(run, rest=""):
    return f"/triggers/runs/{run.id}/{rest}"


def html(client, run):
    response = client.get(url(run))
    assert response.status_code == 200
    return response.content.decode()


def with_payload(status, *args, **kwargs):
    run = make_run(status)
    body = json.dumps([args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()
    Run.objects.filter(pk=run.pk).update(payload=body)
    return fresh(run)


@pytest.mark.parametrize("status", Status)
def test_each_status_is_explained_and_says_what_happens_next(viewer, status):
    text = html(viewer, make_run(status))
    assert text.count("<strong>") >= 1
    assert 'id="next"' in text


def test_a_paused_queue_is_the_reason_why_nothing_happens(viewer):
    run = make_run(Status.PENDING)
    run.queue.paused = True
    run.queue.save()
    assert "is paused: it starts when the queue is resumed" in html(viewer, run)


def test_a_run_is_due_at_a_moment_until_that_has_passed(viewer):
    later, passed = now() + timedelta(hours=1), now() - timedelta(minutes=5)
    said = html(viewer, make_run(Status.PENDING, due_at=later))
    assert f", at {later:%Y-%m-%d %H:%M:%S} UTC." in said
    said = html(viewer, make_run(Status.PENDING, due_at=passed, attempt=2))
    assert "Attempt 2 starts as soon as queue" in said


def test_steps_waits_and_children_are_bars_on_one_line(viewer):
    run = make_run(Status.WAITING)
    make_step(run, "charge_card#1", 7)
    make_event_wait(run, "cart/checked-out")
    child = make_run(Status.COMPLETED, parent=run, root=run, parent_key="mail#1", task="send_mail")
    text = html(viewer, run)
    for label in ("charge_card#1", "cart/checked-out", "send_mail", "attempt 1", f"/triggers/runs/{child.id}/"):
        assert label in text
    assert text.count("<rect") == 5


def test_checkpoints_and_how_the_run_came_back_are_bars_too(viewer):
    run = make_run(Status.RUNNING)
    fields = {
        "sequence": 1,
        "lease": 1,
        "attempt": 1,
        "crashes": 0,
        "host": "one",
        "pid": 1,
        "pipe": 1,
        "size": 250_000,
    }
    took = timedelta(milliseconds=80)
    image = Checkpoint.objects.create(id=uuid4(), run=run, image_size=62_000_000, took=took, **fields)
    assert "62.0 MB of memory freed, 250.0 KB stored, by one" in html(viewer, run)
    checkpoints.note_tried(run.id, image.id, lease=run.lease, host="two", took=took)
    checkpoints.note_tried(run.id, image.id, lease=run.lease, host="two", took=took, problem="it is damaged")
    spans = [span for span in viewer.get(url(run)).context["spans"] if span.kind in ("checkpoint", "restore")]
    notes = {span.note for span in spans}
    assert any(note.startswith("on two, gone for") for note in notes)
    assert "entered again because it is damaged" in notes


def test_payload_and_result_are_shown_without_what_is_secret(viewer):
    run = with_payload(Status.COMPLETED, "tkt_1", card={"number": 4242, "api_key": "sk_live"})
    Run.objects.filter(pk=run.pk).update(result=b'{"seat": "12a"}', result_type="application/json")
    text = html(viewer, run)
    assert "tkt_1" in text
    assert "4242" in text
    assert "sk_live" not in text
    assert "12a" in text
    assert b"sk_live" not in viewer.get(url(run, "download/payload")).content
    assert viewer.get(url(run, "download/result")).json() == {"seat": "12a"}


def test_a_payload_that_is_no_json_is_never_decoded(viewer):
    import pickle

    run = make_run()
    message = json.loads(run.message) | {"content_type": "application/x-python-serialize"}
    Run.objects.filter(pk=run.pk).update(payload=pickle.dumps(([1], {}, {})), message=json.dumps(message))
    assert "which is not decoded here" in html(viewer, run)
    assert viewer.get(url(run, "download/payload")).status_code == 404


def test_a_payload_of_a_megabyte_is_no_part_of_the_page_but_can_be_had(viewer):
    run = with_payload(Status.COMPLETED, "x" * 1_000_000)
    response = viewer.get(url(run))
    assert len(response.content) < 50_000
    assert "Too large for a page" in response.content.decode()
    assert len(viewer.get(url(run, "download/payload")).content) > 1_000_000


def test_text_of_any_kind_stays_text(operator):
    run = with_payload(Status.FAILED, EVIL, **{EVIL: EVIL})
    error = {"type": EVIL, "message": EVIL, "traceback": EVIL}
    Run.objects.filter(pk=run.pk).update(task=EVIL, tags=[EVIL], error=error, task_id=EVIL[:255])
    make_step(run, EVIL, EVIL)
    make_event_wait(run, EVIL, {"k": [EVIL]})
    for page in (html(operator, run), operator.get("/triggers/runs/").content.decode()):
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page


def test_half_a_surrogate_pair_is_shown_as_it_is_written(operator):
    run = with_payload(Status.COMPLETED, "a\ud800", b="\udfff")
    text = html(operator, run)
    assert r"a\ud800" in text and r"\udfff" in text
    assert json.loads(operator.get(url(run, "download/payload")).content)[:2] == [["a\ud800"], {"b": "\udfff"}]


def test_the_journal_is_a_file(viewer):
    run = make_run(Status.WAITING)
    make_step(run, "charge#1", {"id": 7})
    response = viewer.get(url(run, "journal"))
    assert "attachment" in response["Content-Disposition"]
    assert response.json()["steps"][0]["value"] == {"id": 7}


def test_a_run_that_is_gone_says_why(viewer):
    run = make_run()
    Run.objects.all().delete()
    response = viewer.get(url(run))
    assert response.status_code == 404
    assert "kept for a while only" in response.content.decode()


def test_a_thousand_spans_cost_as_many_queries_as_one(viewer):
    run = make_run(Status.WAITING)
    make_step(run, "step#0")
    make_wait(run, key="first#1")
    with CaptureQueriesContext(connection) as one:
        viewer.get(url(run))
    step = {"run": run, "digest": "0" * 64, "lease": 1, "attempt": 1, "value": "null", "started_at": now()}
    Step.objects.bulk_create(Step(key=f"step#{n}", **step) for n in range(1, 900))
    for n in range(1, 50):
        make_wait(run, key=f"sleep#{n}", status="resolved")
        make_run(Status.COMPLETED, parent=run, root=run, parent_key=f"child#{n}")
    with CaptureQueriesContext(connection) as many:
        response = viewer.get(url(run))
    assert len(response.context["spans"]) == 1001  # with its queue and its attempt
    assert len(many) == len(one) <= 19


def test_a_viewer_sees_no_buttons(viewer):
    assert "<form" not in html(viewer, make_run(Status.FAILED))


def test_what_a_failed_run_did_not_undo_is_told(viewer):
    error = {"type": "builtins:ValueError", "message": "no seat", "rollbacks_failed": ["rollback:of:pay#1"]}
    text = html(viewer, make_run(Status.FAILED, error={**error, "not_undone": [EVIL, "card"]}))
    assert "Rollbacks that failed: <code>rollback:of:pay#1</code>" in text
    assert EVIL not in text and ", card</code>" in text


def test_retry_goes_on_with_a_failed_run_and_is_noted_with_who_did_it(operator):
    run = make_run(Status.FAILED)
    assert "Retry" in html(operator, run)
    assert operator.post(url(run, "retry")).status_code == 302
    assert fresh(run).attempt == 2
    assert AuditEntry.objects.get(action="run.retry").actor == "user operator"


def test_what_the_engine_refuses_is_said_in_its_words(operator):
    response = operator.post(url(make_run(Status.COMPLETED), "retry"))
    assert response.status_code == 400
    assert "only a failed run can be retried" in response.content.decode()


def test_cancel_stops_a_run(operator):
    run = make_run(Status.WAITING)
    operator.post(url(run, "cancel"))
    assert fresh(run).status == Status.CANCELED
    assert "It was over already." in operator.post(url(run, "cancel"), follow=True).content.decode()


def test_replay_is_a_new_run_with_the_same_payload(operator):
    run = with_payload(Status.COMPLETED, 1, b=2)
    operator.post(url(run, "replay"))
    new = Run.objects.get(replay_of=run)
    assert json.loads(bytes(new.payload))[:2] == [[1], {"b": 2}]


def test_replay_with_an_edited_payload_keeps_what_was_hidden_from_the_editor(operator):
    run = with_payload(Status.COMPLETED, 1, password="s3cret", n=1)
    assert "s3cret" not in html(operator, run)
    edited = {"args": [2], "kwargs": {"password": "(hidden)", "n": 5}}
    operator.post(url(run, "replay"), {"payload": json.dumps(edited)})
    new = Run.objects.get(replay_of=run)
    assert json.loads(bytes(new.payload))[:2] == [[2], {"password": "s3cret", "n": 5}]


def test_replay_begins_with_the_step_that_was_chosen(operator):
    run = with_payload(Status.FAILED, 1)
    make_step(run, "reserve#1", started_at=now() - timedelta(seconds=9), finished_at=now() - timedelta(seconds=8))
    make_step(run, "charge#1", error="{}", value=None)
    text = html(operator, run)
    assert '<option value="charge#1">' in text
    operator.post(url(run, "replay"), {"from_step": "charge#1", "payload": '{"args": [2]}'})
    new = Run.objects.get(replay_of=run)
    assert json.loads(bytes(new.payload))[0] == [2]
    assert list(new.steps.values_list("key", flat=True)) == ["reserve#1"]
    assert "carried over from the run that this one replays" in html(operator, new)


def test_one_that_was_rolled_back_offers_no_step_to_begin_with_and_no_retry(operator):
    run = with_payload(Status.FAILED, 1)
    assert url(run, "retry") in html(operator, run)
    make_step(run, "reserve#1", undone=True)
    text = html(operator, run)
    assert "from_step" not in text
    assert url(run, "retry") not in text
    assert "rolled back, so there is no step to go on from" in text
    response = operator.post(url(run, "replay"), {"from_step": "reserve#1"})
    assert response.status_code == 400
    assert "was rolled back" in response.content.decode()


def test_there_are_links_to_flower_where_the_settings_say_where_it_is(viewer):
    run = make_run(task_id="a/b c")
    make_worker()
    assert "Flower" not in html(viewer, run)
    with override_settings(TRIGGERAPP={"FLOWER_URL": "https://flower.example.org/here/"}):
        assert 'href="https://flower.example.org/here/task/a%2Fb%20c"' in html(viewer, run)
        workers = viewer.get("/triggers/workers/").content.decode()
        assert 'href="https://flower.example.org/here/worker/elsewhere"' in workers


@pytest.mark.parametrize("payload", ["", "{", "[1]", '{"args": 1}', '{"kwargs": []}', '{"x": 1}', '{"args": [NaN]}'])
def test_a_payload_that_cannot_be_is_refused_and_there_is_no_run(operator, payload):
    run = with_payload(Status.COMPLETED)
    assert operator.post(url(run, "replay"), {"payload": payload}).status_code == 400
    assert Run.objects.count() == 1


@durable
def letter(name: str) -> str:
    return f"hello {name}"


def test_an_edited_payload_that_does_not_fit_the_task_is_refused_with_the_arguments_name(operator):
    run = make_run(Status.COMPLETED, task=letter.name)
    refused = operator.post(url(run, "replay"), {"payload": '{"kwargs": {"nobody": 1}}'})
    assert (refused.status_code, Run.objects.count()) == (400, 1)
    assert "there is no keyword argument &#x27;nobody&#x27;" in refused.content.decode()
    operator.post(url(run, "replay"), {"payload": '{"kwargs": {"name": "Eve"}}'})
    assert json.loads(bytes(Run.objects.get(replay_of=run).payload))[:2] == [[], {"name": "Eve"}]


def test_the_version_that_a_run_was_asked_for_is_shown_and_said_to_hold_it_to_nothing(viewer):
    text = html(viewer, make_run(version="20261122.7"))
    assert "<code>20261122.7</code>" in text
    assert "not enforced yet" in text
    assert "not enforced yet" not in html(viewer, make_run())


def test_a_token_is_completed_from_the_page(operator):
    run = make_run(Status.WAITING)
    wait = make_wait(run, WaitKind.TOKEN, key="token#1")
    assert "Complete the token" in html(operator, run)
    operator.post(f"/triggers/waits/{wait.id}/resolve", {"value": '{"ok": true}'})
    assert (fresh(wait).status, fresh(wait).resolved_by) == ("resolved", "user operator")
    assert json.loads(fresh(wait).value) == {"ok": True}
    assert AuditEntry.objects.filter(action="token.complete").count() == 1


def test_the_event_that_a_run_waits_for_is_sent_from_its_page(operator):
    run = make_run(Status.WAITING)
    wait = make_event_wait(run, "paid", {"order": ["o1"]})
    text = html(operator, run)
    assert "&quot;order&quot;: &quot;o1&quot;" in text
    form = {"run": str(run.id), "environment": "dev", "name": "paid", "payload": '{"order": "o1"}'}
    assert operator.post("/triggers/events/send", form).headers["Location"] == url(run)
    assert fresh(wait).status == "resolved"
    assert Event.objects.get().payload == {"order": "o1"}


def test_a_call_can_be_copied_as_python_and_as_curl(viewer):
    run = with_payload(Status.COMPLETED, 1, name="it's")
    Run.objects.filter(pk=run.pk).update(task="shop.tasks.buy")
    context = viewer.get(url(run)).context
    assert context["python"] == 'from shop.tasks import buy\n\nbuy.delay(1, name="it\'s")'
    assert "/api/v1/tasks/shop.tasks.buy/trigger" in context["curl"]


def test_a_replay_of_what_cannot_be_read_says_so_on_a_page(operator):
    response = operator.post(url(make_unreadable(), "replay"))
    assert response.status_code == 400
    assert "which this process does not read" in response.content.decode()
