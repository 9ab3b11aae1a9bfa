"""How a run ends is told to whoever wants to hear of it: signed, by a run of our own, until it is taken."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from tests.factories import fresh, make_run, make_worker
from tests.inprocess import Worker, at_once, durable, forward
from tests.triggerapp.test_posting import Receiver, private_allowed, receiver
from triggerapp.engine import calls, destinations, notices, rescue, runs, verbs
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import AuditEntry, Destination, Notice, Run, Status
from workers import AbortRun

pytestmark = pytest.mark.usefixtures("database", "private_allowed")

__all__ = ["private_allowed", "receiver"]  # fixtures


@durable
def works() -> str:
    return "secret result"


@durable
def breaks() -> None:
    raise AbortRun("no more seats")


def destination(receiver: Receiver, **options: Any) -> str:
    return destinations.create("dev", "ops", receiver.url, **{"wants": destinations.KINDS, **options}).secret


def kinds() -> list[str]:
    return sorted(Notice.objects.values_list("kind", flat=True))


def test_a_failure_is_told_signed_so_that_the_reference_library_verifies_it(worker: Worker, receiver):
    library = pytest.importorskip("standardwebhooks")
    secret = destination(receiver)
    run = breaks.trigger()
    worker.work()
    worker.tick()
    ((path, headers, body),) = receiver.requests
    told = library.Webhook(secret).verify(body, headers)
    assert (path, told["type"]) == ("/hook?a=1", "run.failed")
    assert told["data"]["id"] == f"run_{run.id}"
    assert told["data"]["task"] == breaks.name
    assert "no more seats" in told["data"]["error"]["message"]
    notice = Notice.objects.get()
    assert (notice.status, notice.tries, bool(notice.delivered_at)) == (200, 1, True)
    assert Run.objects.get(pk=notice.run).status == Status.COMPLETED


def test_neither_arguments_nor_result_nor_traceback_are_told(worker: Worker, receiver):
    destination(receiver)
    works.trigger()
    breaks.trigger()
    worker.work()
    worker.tick()
    assert len(receiver.requests) == 2
    assert not any(word in body for _, _, body in receiver.requests for word in (b"secret result", b"Traceback"))


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (lambda run: runs.complete(run.id, lease=1, result=b"1", result_type="application/json"), "run.completed"),
        (lambda run: runs.fail(run.id, lease=1, error={"message": "x"}), "run.failed"),
        (lambda run: runs.fail(run.id, lease=1, error={}, status=Status.TIMED_OUT), "run.timed_out"),
        (lambda run: verbs.cancel(run.id), "run.canceled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_end_is_noted_in_its_own_transaction(receiver, end, kind):
    destination(receiver)
    run = make_run(Status.RUNNING)
    end(run)
    assert [(notice.kind, notice.about) for notice in Notice.objects.all()] == [(kind, run.id)]


def test_crashes_and_expiries_are_noted_too(receiver):
    destination(receiver)
    make_run(Status.RUNNING, worker=make_worker(alive=False), crashes=2)
    rescue.rescue()
    make_run(Status.QUEUED, expires_at="2020-01-01T00:00:00Z")
    rescue.expire()
    assert kinds() == ["run.crashed", "run.expired"]


def test_a_crash_after_which_the_run_goes_on_is_no_end(receiver):
    destination(receiver)
    make_run(Status.RUNNING, worker=make_worker(alive=False))
    rescue.rescue()
    assert kinds() == []


def test_only_what_is_wanted_is_noted(receiver):
    destination(receiver, wants=["run.failed"], tasks=["wanted"])
    destinations.create("prod", "elsewhere", receiver.url)
    for task, status in (("wanted", Status.FAILED), ("wanted", Status.TIMED_OUT), ("other", Status.FAILED)):
        runs.fail(make_run(Status.RUNNING, task=task).id, lease=1, error={}, status=status)
    assert kinds() == ["run.failed"]
    destinations.set_disabled("dev", "ops", disabled=True)
    runs.fail(make_run(Status.RUNNING, task="wanted").id, lease=1, error={})
    assert kinds() == ["run.failed"]


def test_what_is_not_taken_is_tried_again_by_the_engine(worker: Worker, receiver):
    destination(receiver)
    receiver.status = 500
    breaks.trigger()
    worker.work()
    worker.tick()
    notice = Notice.objects.get()
    assert (notice.status, notice.error, notice.delivered_at) == (500, "it answered 500", None)
    run = Run.objects.get(pk=notice.run)
    assert (run.status, run.attempt) == (Status.PENDING, 2)
    receiver.status = 204
    worker.until(run)
    assert (fresh(notice).tries, fresh(notice).status) == (2, 204)
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {f"msg_{notice.pk}"}


def test_a_redirect_is_not_taken(worker: Worker, receiver):
    destination(receiver)
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    breaks.trigger()
    worker.work()
    worker.tick()
    assert len(receiver.requests) == 1
    assert Notice.objects.get().error == "it answered 307"


def test_the_end_of_a_delivery_is_told_to_nobody(worker: Worker, receiver, settings):
    destination(receiver)
    breaks.trigger()
    worker.work()
    settings.TRIGGERAPP = {}
    Destination.objects.update(url="https://127.0.0.1/")
    worker.tick()
    notice = Notice.objects.get()
    assert Run.objects.get(pk=notice.run).status == Status.FAILED
    assert "not a public address" in notice.error
    assert receiver.requests == []


def test_a_destination_that_is_disabled_or_gone_hears_nothing_more(worker: Worker, receiver):
    destination(receiver)
    breaks.trigger()
    worker.work()
    destinations.set_disabled("dev", "ops", disabled=True)
    worker.tick()
    assert receiver.requests == []
    destinations.remove("dev", "ops")
    assert not Notice.objects.exists()


def test_many_tickers_start_one_run_for_a_notice(receiver):
    destination(receiver)
    for _ in range(10):
        runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    at_once(*[notices.start_due] * 5)
    notices.start_due()
    assert Run.objects.filter(task=notices.TASK).count() == Notice.objects.filter(run__isnull=False).count() == 10


def test_a_notice_that_cannot_be_sent_on_its_way_holds_up_no_other_and_is_tried_again(receiver, monkeypatch):
    destination(receiver)
    for _ in range(2):
        runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    bad, request_of = Notice.objects.order_by("id").first(), calls.request_of

    def route(call: Any) -> Any:
        if call.payload == {"notice": str(bad.pk)}:
            raise ZeroDivisionError("of a router")
        return request_of(call)

    monkeypatch.setattr(calls, "request_of", route)
    notices.start_due()
    assert (fresh(bad).run, fresh(bad).error) == (None, "ZeroDivisionError: of a router")
    assert Notice.objects.exclude(run=None).count() == 1
    monkeypatch.undo()
    assert notices.start_due() == 0
    forward(minutes=1)
    assert notices.start_due() == 1


def test_a_run_ends_while_its_destination_is_being_removed(receiver):
    destination(receiver)
    run = make_run(Status.RUNNING)
    with transaction.atomic():
        destinations.remove("dev", "ops")
        at_once(partial(runs.fail, run.id, lease=1, error={}))  # neither waits for the removal nor fails by it
    assert fresh(run).status == Status.FAILED
    assert kinds() == ["run.failed"]
    notices.prune()
    assert kinds() == []


# --- destinations ---------------------------------------------------------------------------------


def test_its_secret_is_shown_once_and_stored_encrypted(receiver):
    secret = destination(receiver)
    row = Destination.objects.get()
    assert secret.encode() not in bytes(row.sealed)
    assert destinations.secret_of(row) == secret
    assert secret not in json.dumps(list(AuditEntry.objects.values("before", "after")))
    assert destinations.rotate("dev", "ops").secret != secret


def test_the_path_of_its_address_which_may_be_a_secret_is_in_no_audit_log_and_no_refusal():
    destinations.create("dev", "chat", "https://hooks.example.com/services/canary")
    destinations.remove("dev", "chat")
    told = [entry.after or entry.before for entry in AuditEntry.objects.filter(target="chat").order_by("id")]
    assert [each["url"] for each in told] == ["https://hooks.example.com"] * 2
    for wrong in ("ftp://x/canary", "https://x/canary canary", "https://[canary/", "https://x:canary/"):
        with pytest.raises(BadInput) as refusal:
            destinations.create("dev", "chat", wrong)
        assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "ftp://x"}, "must begin with"),
        ({"url": "http://user@x/"}, "no user"),
        ({"wants": []}, "wants something"),
        ({"wants": ["run.began"]}, "no notice"),
        ({"tasks": [""]}, "name of the task"),
        ({"name": "No Name"}, "small letters"),
    ],
)
def test_a_destination_that_cannot_be_is_refused(fields, says):
    values = {"name": "ops", "url": "https://example.com/", **fields}
    with pytest.raises(BadInput, match=says):
        destinations.create("dev", values.pop("name"), values.pop("url"), **values)
    assert not Destination.objects.exists()


def test_a_name_that_is_taken_or_unknown_is_refused(receiver):
    destination(receiver)
    with pytest.raises(BadInput, match="already"):
        destination(receiver)
    with pytest.raises(NotFound):
        destinations.remove("dev", "none")


def test_the_command_does_all_of_it(capsys):
    call_command("destinations", "create", "ops", "https://example.com/T0/B0/x?key=y", "--want", "run.failed")
    secret = capsys.readouterr().out.strip()
    assert secret.startswith("whsec_")
    call_command("destinations", "list", "--json")
    out = capsys.readouterr().out
    assert json.loads(out)[0]["wants"] == ["run.failed"]
    assert json.loads(out)[0]["origin"] == "https://example.com"
    assert secret not in out
    assert "B0" not in out
    for verb in ("rotate", "disable", "enable", "list", "remove"):
        call_command("destinations", verb, *(["ops"] if verb != "list" else []))
    with pytest.raises(CommandError, match="no destination"):
        call_command("destinations", "rotate", "ops")
    with pytest.raises(CommandError, match="must begin with"):
        call_command("destinations", "create", "x", "javascript:alert(1)")
    assert AuditEntry.objects.filter(action__startswith="destination.").count() == 5


def test_notices_are_pruned_with_the_webhooks(receiver):
    destination(receiver)
    runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    notices.start_due()
    forward(days=timedelta(days=8).days)
    notices.prune()
    assert not Notice.objects.exists()
