"""Management commands about runs."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from tests.factories import (
    fresh,
    make_event,
    make_event_wait,
    make_run,
    make_step,
    make_unreadable,
    make_wait,
    make_worker,
)
from tests.inprocess import app, durable
from tests.triggerapp.commands import answered, said
from triggerapp import ids
from triggerapp.clock import now
from triggerapp.engine import catalog, deployments, environments, workers
from triggerapp.engine.deployments import Build
from triggerapp.management.commands.trigger import Command as Trigger
from triggerapp.models import AuditEntry, Event, Run, Status, WaitStatus

pytestmark = pytest.mark.usefixtures("database")
NOWHERE = "0192f000-0000-7000-8000-000000000000"


@durable
def greet(name: str) -> str:
    return f"hello {name}"


def triggered(*arguments):
    """The run whose id the command says."""
    return Run.objects.get(pk=ids.read("run", said(*arguments).strip()))


def test_a_run_is_shown_where_no_dashboard_is_mounted(settings):
    parent = make_run(Status.WAITING)
    make_wait(parent, status=WaitStatus.RESOLVED, event=make_event("paid").id)
    make_run(parent=parent, parent_key="a")
    settings.ROOT_URLCONF = ()
    assert str(parent.id) in said("runs", "show", parent.id)


def test_trigger_accepts_a_run_and_says_its_id():
    run = triggered("trigger", greet.name, '{"name": "Eve"}', "--tag", "a")
    assert json.loads(bytes(run.payload))[:2] == [[], {"name": "Eve"}]
    assert run.tags == ["a"]
    assert AuditEntry.objects.get().actor.startswith("shell")


SHAPES = [
    ('{"name": "Eve"}', [[], {"name": "Eve"}]),
    ('{"args": ["Eve"]}', [["Eve"], {}]),
    ('{"args": [], "kwargs": {"name": "Eve"}}', [[], {"name": "Eve"}]),
    ('["a"]', [[["a"]], {}]),
    ('"Eve"', [["Eve"], {}]),
]


@pytest.mark.parametrize(("payload", "call"), SHAPES)
def test_a_payload_becomes_the_arguments_that_the_help_says(payload, call):
    run = triggered("trigger", greet.name, payload)
    assert json.loads(bytes(run.payload))[:2] == call
    shown = StringIO()
    Trigger(stdout=shown).create_parser("manage.py", "trigger").print_help(shown)
    assert "anything else, a list too, is the one positional argument" in " ".join(shown.getvalue().split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("no.such",),
        (greet.name, "{"),
        (greet.name, '{"nobody": 1}'),
        (greet.name, '{"name": "Eve"}', "--delay", "inf"),
        (greet.name, '{"name": "Eve"}', "--delay", "nan"),
        (greet.name, '{"name": "Eve"}', "--delay", "-1"),
        (greet.name, '{"name": "Eve"}', "--idempotency-key", ""),
        (greet.name, '{"name": "Eve"}', "--tag", "x" * 200),
    ],
)
def test_a_trigger_that_cannot_be_is_refused_and_there_is_no_run(arguments):
    with pytest.raises(CommandError):
        said("trigger", *arguments)
    assert Run.objects.count() == 0


def test_send_event_resolves_what_waits_for_it():
    wait = make_event_wait(make_run(Status.WAITING), "paid", {"order": ["o1"]})
    assert answered("send_event", "paid", '{"order": "o1"}', "--id", "e1")["isCached"] is False
    assert answered("send_event", "paid", '{"order": "o1"}', "--id", "e1")["isCached"] is True
    assert fresh(wait).status == "resolved"
    sent, (noted,) = Event.objects.get(), AuditEntry.objects.filter(action="event.send")
    assert (noted.environment_id, noted.target, noted.after) == (sent.environment_id, str(sent.id), {"name": "paid"})


def test_cancel_stops_runs_and_says_which_were_over():
    live, over = make_run(), make_run(Status.COMPLETED)
    assert answered("cancel", live.id, f"run_{over.id}") == [
        {"id": f"run_{live.id}", "canceled": True},
        {"id": f"run_{over.id}", "canceled": False},
    ]
    assert fresh(live).status == Status.CANCELED
    with pytest.raises(CommandError, match="there is no run"):
        said("cancel", NOWHERE)
    with pytest.raises(CommandError, match="is no run's id"):
        said("cancel", "rubbish")


def test_a_run_that_is_named_twice_is_taken_once():
    live, failed = make_run(), make_run(Status.FAILED)
    assert answered("cancel", live.id, f"run_{live.id}") == [{"id": f"run_{live.id}", "canceled": True}]
    assert answered("retry", failed.id, failed.id) == [{"id": f"run_{failed.id}", "retried": True}]
    assert len(answered("replay", failed.id, str(failed.id)[:30])) == 1
    assert Run.objects.filter(replay_of=failed.id).count() == 1


def test_retry_goes_on_with_those_that_failed_and_ends_with_an_error_for_the_others():
    failed, over = make_run(Status.FAILED), make_run(Status.COMPLETED)
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 2 were refused"):
        call_command("retry", str(over.id), str(failed.id), "--json", stdout=out)
    refused, done = json.loads(out.getvalue())
    assert (refused["id"], refused["retried"]) == (f"run_{over.id}", False)
    assert "only a failed run can be retried" in refused["error"]
    assert done == {"id": f"run_{failed.id}", "retried": True}
    assert fresh(failed).attempt == 2


@pytest.mark.parametrize(("payload", "call"), SHAPES)
def test_replay_of_one_run_takes_another_payload_in_the_shapes_that_trigger_takes(payload, call):
    run = make_run(Status.COMPLETED, task=greet.name)
    (answer,) = answered("replay", run.id, "--payload", payload)
    new = Run.objects.get(pk=answer["replay"].removeprefix("run_"))
    assert new.replay_of_id == run.id
    assert json.loads(bytes(new.payload))[:2] == call


@pytest.mark.parametrize(
    ("payload", "culprit"),
    [
        ('{"nobody": 1}', "there is no keyword argument 'nobody'"),
        ("{}", "the argument 'name' is missing"),
        ('{"args": ["Eve", 2]}', r"args\[1\] is one positional argument too many"),
        ("{", "the payload is not JSON that can be stored"),
        ("\udcff", "the payload is not JSON that can be stored"),
        ('{"name": "\\ud800"}', "it contains half a surrogate pair"),
        ("{bad", "line 1 column 2"),
    ],
)
def test_trigger_and_replay_refuse_a_payload_with_the_same_words(payload, culprit):
    run = make_run(Status.COMPLETED, task=greet.name)
    for command in (("trigger", greet.name, payload), ("replay", run.id, "--payload", payload)):
        with pytest.raises(CommandError, match=culprit):
            said(*command)
    assert Run.objects.count() == 1


def test_replay_for_a_version_notes_it_on_the_new_runs_and_says_that_nothing_holds_them_to_it():
    deployments.register(environments.current(), Build(version="20261122.1"))
    runs, told = [make_run(Status.FAILED) for _ in range(2)], StringIO()
    call_command("replay", "--status", "failed", "--version", "20261122.1", stdout=StringIO(), stderr=told)
    made = Run.objects.exclude(replay_of=None)
    assert {(run.replay_of_id, run.version) for run in made} == {(run.id, "20261122.1") for run in runs}
    assert {entry.after["version"] for entry in AuditEntry.objects.filter(action="run.replay")} == {"20261122.1"}
    assert "20261122.1 is noted on the new runs; nothing holds them to it yet" in told.getvalue()
    assert [run.version for run in runs] == [None, None]


def test_a_replay_for_a_version_that_was_not_registered_here_is_one_error_and_no_run():
    run = make_run(Status.FAILED, version="20261122.1")
    with pytest.raises(CommandError, match=r"no deployment of version '20261122.1' \(none was registered in this env"):
        said("replay", run.id, "--version", "20261122.1")
    deployments.register(environments.by_slug("elsewhere"), Build(version="20261122.1"))
    deployments.register(environments.current(), Build(version="20261122.2"))
    for more in ((), ("--dry-run",)):
        with pytest.raises(CommandError, match=r"registered: 20261122.2\)"):
            said("replay", run.id, "--version", "20261122.1", *more)
    assert Run.objects.count() == 1


def test_a_replay_of_a_run_for_a_version_is_for_none_itself():
    run = make_run(Status.COMPLETED, version="20261122.1")
    (answer,) = answered("replay", run.id)
    assert answered("runs", "show", answer["replay"])["id"] == answer["replay"]
    assert Run.objects.get(pk=answer["replay"].removeprefix("run_")).version is None


def test_replay_of_a_run_that_cannot_be_read_says_so_and_does_the_others():
    good = make_run(Status.COMPLETED)
    bad, told = make_unreadable(), StringIO()
    with pytest.raises(CommandError, match="1 of 2 were refused"):
        call_command("replay", str(bad.id), str(good.id), stdout=StringIO(), stderr=told)
    assert f"{bad.id}: the payload is in application/x-python-serialize" in told.getvalue()
    assert Run.objects.get(replay_of=good.id)


def test_replay_by_filter_shows_first_and_does_then():
    wanted = {f"run_{make_run(Status.FAILED, task='shop.buy').id}" for _ in range(3)}
    make_run(Status.FAILED)
    chosen = ("replay", "--status", "failed", "--task", "shop.buy")
    assert {row["id"] for row in answered(*chosen, "--dry-run")} == wanted
    assert Run.objects.count() == 4
    said(*chosen)
    made = Run.objects.exclude(replay_of=None)
    assert {f"run_{run}" for run in made.values_list("replay_of", flat=True)} == wanted


def test_replay_from_a_step_takes_those_runs_that_have_it():
    runs = [make_run(Status.COMPLETED, task="shop.buy") for _ in range(3)]
    for run in runs[:2]:
        make_step(
            run, "reserve#1", 7, started_at=now() - timedelta(seconds=9), finished_at=now() - timedelta(seconds=8)
        )
        make_step(run, "charge#1")
    chosen = ("replay", "--status", "completed", "--task", "shop.buy", "--from-step", "charge#1")
    with pytest.raises(CommandError, match="1 of 3 were refused"):
        said(*chosen)
    made = Run.objects.exclude(replay_of=None)
    assert {run.replay_of_id for run in made} == {run.id for run in runs[:2]}
    for run in made:
        assert list(run.steps.values_list("key", "value", "attempt")) == [("reserve#1", "7", 0)]
    shown = answered("runs", "show", made[0].id)
    assert [step["key"] for step in shown["journal"]["steps"]] == ["reserve#1"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (NOWHERE, "--status", "failed"),
        (NOWHERE, "--environment", "dev"),
        ("--status", "failed", "--payload", "{}"),
        (NOWHERE, "--payload", "[]"),
    ],
)
def test_a_replay_that_says_not_what_of_is_refused(arguments):
    with pytest.raises(CommandError):
        said("replay", *arguments)


def test_runs_list_filters_as_the_dashboard_does():
    failed = make_run(Status.FAILED)
    make_run()
    (row,) = answered("runs", "list", "--status", "failed")
    assert (row["id"], row["status"], row["taskIdentifier"]) == (f"run_{failed.id}", "FAILED", failed.task)
    assert "failed" in said("runs", "list")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--limit", "0"), "from 1 to 1,000"),
        (("--limit", "-3"), "from 1 to 1,000"),
        (("--environment", "nowhere"), "no environment 'nowhere'"),
        (("--status", "over"), "invalid choice"),
    ],
)
def test_a_list_that_cannot_be_is_refused(arguments, says):
    with pytest.raises(CommandError, match=says):
        said("runs", "list", *arguments)


def test_a_list_without_runs_says_so_and_is_a_list_for_machines():
    assert said("runs", "list").strip() == "No run of the last 7d matches."
    assert answered("runs", "list") == []


def test_a_replay_of_no_run_says_so():
    call_command("replay", "--task", "no.such", stdout=StringIO(), stderr=(told := StringIO()))
    assert told.getvalue().strip() == "No run of the last 7d matches."


def test_a_run_that_nobody_runs_is_not_asked_to_move_and_the_reason_is_said():
    waiting, running = make_run(Status.WAITING), make_run(Status.RUNNING, worker=(worker := make_worker()))
    workers.describe(worker, waiting="by re-entry: TRIGGERAPP['CHECKPOINT'] is off")
    why = "by re-entry: TRIGGERAPP['CHECKPOINT'] is off"
    with pytest.raises(CommandError, match="there is no run"):
        said("checkpoints", "pause", running.id, NOWHERE)
    assert not fresh(running).moving
    gone, asked = answered("checkpoints", "pause", waiting.id, running.id)
    assert gone == {"id": f"run_{waiting.id}", "asked": False, "error": "no worker has it now"}
    assert asked == {"id": f"run_{running.id}", "asked": True, "worker": "elsewhere", "waits": why}
    assert f"asked; elsewhere has it, whose runs wait {why}" in said("checkpoints", "pause", running.id)
    eager = make_run(Status.RUNNING, is_eager=True, worker=UUID(int=0))
    assert "no worker has it now" in said("checkpoints", "pause", eager.id)


def test_a_task_that_is_nearly_named_is_named():
    with pytest.raises(CommandError, match=f"did you mean '{greet.name}'"):
        said("trigger", greet.name.replace("greet", "geet"))


class Terminal(StringIO):
    """One of 80 columns, if the environment says so."""

    def isatty(self):
        return True


def test_ids_are_whole_in_a_narrow_terminal_and_rows_in_a_file(monkeypatch):
    run = make_run(Status.FAILED, task="shop.tasks.of_a_name_that_takes_all_the_room_there_is")
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    call_command("runs", "list", stdout=out, no_color=True)
    assert str(run.id) in out.getvalue()
    (line,) = [line for line in said("runs", "list").splitlines() if str(run.id) in line]
    assert run.task in line


def test_a_run_is_named_by_as_much_of_its_id_as_no_other_has():
    one, other = make_run(id=UUID(f"{NOWHERE[:-2]}a0")), make_run(id=UUID(f"{NOWHERE[:-2]}b0"))
    assert answered("cancel", f"run_{NOWHERE[:-2]}a") == [{"id": f"run_{one.id}", "canceled": True}]
    assert answered("runs", "show", str(other.id).replace("-", "")[:31])["id"] == f"run_{other.id}"
    with pytest.raises(
        CommandError, match=rf"several runs' ids begin with '0192f': run_{one.id}, run_{other.id}\. Give more"
    ):
        said("cancel", "0192f")
    with pytest.raises(CommandError, match="there is no run whose id begins with 'ffff'"):
        said("retry", "ffff")
    with pytest.raises(CommandError, match="nor the beginning of one: 4 to 32 hexadecimal digits"):
        said("checkpoints", "delete", "019")
    assert (fresh(one).status, fresh(other).status) == (Status.CANCELED, Status.QUEUED)


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (Status.COMPLETED, ("replay", "--dry-run")),
        (Status.COMPLETED, ("replay",)),
        (Status.FAILED, ("retry",)),
        (Status.WAITING, ("cancel",)),
        (Status.WAITING, ("runs", "show")),
    ],
)
def test_a_run_is_shown_as_the_api_shows_it(status, arguments):
    run = make_run(status)
    text = said(*arguments, str(run.id))
    assert f"run_{run.id}" in text and text.count(str(run.id)) == text.count(f"run_{run.id}")


def test_prune_deletes_what_is_older_than_its_retention():
    old = make_run(Status.COMPLETED)
    Run.objects.filter(pk=old.pk).update(finished_at=now() - timedelta(days=31))
    kept = make_run(Status.COMPLETED)
    make_event("old", age=timedelta(days=8))
    counts = answered("prune", "--dry-run")
    assert {kind: count for kind, count in counts.items() if count} == {"runs": 1, "events": 1}
    assert said("prune", "--dry-run").strip() == "1 runs, 1 events would be deleted"
    assert (Run.objects.count(), Event.objects.count(), AuditEntry.objects.count()) == (2, 1, 0)
    assert answered("prune") == counts
    assert said("prune").strip() == "nothing deleted"
    assert not Event.objects.exists()
    assert AuditEntry.objects.get().after == counts
    assert list(Run.objects.values_list("pk", flat=True)) == [kept.pk]


def test_a_plain_celery_task_is_told_apart_from_a_name_that_nobody_has():
    app.task(name="tests.plain")(triggered)
    with pytest.raises(CommandError, match=r"'tests\.plain' is a Celery task and not durable"):
        said("trigger", "tests.plain")
    with pytest.raises(CommandError, match=r"no durable task 'celery\.chord'"):  # nobody could make it durable
        said("trigger", "celery.chord")
    assert "no durable task" in str(catalog.missing({"a": 1}))


def test_a_refusal_names_no_tasks_of_celerys_own():
    assert catalog.durable_task("celery.map")
    with pytest.raises(CommandError, match="there is no durable task 'xyzzy'") as told:
        said("trigger", "xyzzy")
    assert "celery." not in str(told.value)
