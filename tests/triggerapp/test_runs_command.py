"""`manage.py runs show` and `runs tail`: one run in a terminal."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.factories import make_run, make_step, make_wait
from tests.triggerapp.commands import answered, said
from triggerapp.clock import now
from triggerapp.models import Status

pytestmark = pytest.mark.usefixtures("database")


def test_runs_show_has_the_journal_without_secrets():
    run = make_run(Status.FAILED, error={"type": "builtins:ValueError", "message": "no\x1b[2J"})
    make_step(run, "charge#1", {"password": "s3cret"})
    shown = answered("runs", "show", run.id)
    assert (shown["id"], shown["error"]["name"]) == (f"run_{run.id}", "ValueError")
    assert shown["journal"]["steps"][0]["key"] == "charge#1"
    assert "s3cret" not in json.dumps(shown)
    text = said("runs", "show", run.id)
    assert "charge#1" in text
    assert "\x1b[2J" not in text
    assert "\\x1b[2J" in text


@pytest.mark.parametrize(
    ("result", "kind", "shown"),
    [
        (b'{"seat":  7, "password": "s3cret"}', "application/json", 'result: {"seat": 7, "password": "(hidden)"}'),
        (rb'"{\"password\": \"s3cret\"}"', "application/json", "(hidden)"),
        ('"b\u2028  c"'.encode(), "application/json", 'result: "b\u2028  c"'),
        (b'"' + b"x" * 900 + b'"', "application/json", "xxx… (902 bytes of application/json; --json has all of it)"),
        (b'"' + b"x" * 300_000 + b'"', "application/json", "result: 300,002 bytes of application/json; --json has all"),
        (b"\x80\x04.", "application/x-python-serialize", "result: 3 bytes of application/x-python-serialize"),
        (None, "", "result: none"),
    ],
)
def test_runs_show_has_the_result_on_one_line_without_secrets(result, kind, shown):
    run = make_run(Status.COMPLETED, result=result, result_type=kind)
    text = said("runs", "show", run.id)
    assert shown in text
    assert "s3cret" not in text


def test_runs_show_says_what_was_not_undone():
    error = {"type": "builtins:ValueError", "message": "no seat"}
    run = make_run(Status.FAILED, error={**error, "rollbacks_failed": ["rollback:of:pay#1"], "not_undone": ["card"]})
    text = said("runs", "show", run.id)
    assert "rollbacks that failed: rollback:of:pay#1" in text
    assert "not undone, since the last attempt registered no rollback for them: card" in text


def test_runs_tail_ends_with_the_run():
    run = make_run(Status.COMPLETED)
    make_step(run, "charge#1")
    lines = [json.loads(line) for line in said("runs", "tail", run.id, "--json").splitlines()]
    assert lines[-1] == {"run": f"run_{run.id}", "kind": "status", "name": run.task, "status": "COMPLETED"}
    assert "charge#1" in [line["name"] for line in lines]


def test_runs_tail_names_every_status_as_the_api_does():
    run = make_run(Status.FAILED)
    make_step(run, "charge#1")
    make_wait(run)
    family = {"parent": run, "root": run}
    make_run(Status.PENDING, task="later", due_at=now() + timedelta(hours=1), parent_key="later#1", **family)
    make_run(Status.RUNNING, task="busy", parent_key="busy#1", **family)
    lines = [json.loads(line) for line in said("runs", "tail", run.id, "--json").splitlines()]
    found = {(line["kind"], line["name"]): line["status"] for line in lines}
    assert {found.pop(("run", task)) for task in ("later", "busy")} == {"DELAYED", "EXECUTING"}
    assert sorted(found.values()) == ["COMPLETED", "FAILED", "FAILED", "WAITING"]
