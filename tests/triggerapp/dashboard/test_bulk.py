"""Bulk actions: begun on the list, done by the ticks, each run once."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.factories import fresh, make_run, make_trigger, make_unreadable
from triggerapp.engine import bulk, environments, triggers
from triggerapp.engine.selection import Selection
from triggerapp.errors import BadInput
from triggerapp.models import AuditEntry, BulkAction, BulkVerb, Run, Status


def asked(client, verb, **form):
    response = client.post("/triggers/bulk/start", {"verb": verb, **form})
    assert response.status_code == 302, response.content.decode()
    return BulkAction.objects.get()


def done(action):
    while bulk.advance():
        pass
    action = fresh(action)
    return action.status, action.done, action.refused


def test_selected_runs_are_canceled_and_no_others(operator):
    runs = [make_run() for _ in range(3)]
    action = asked(operator, "cancel", run=[str(run.id) for run in runs[:2]])
    assert (action.total, action.done) == (2, 0)
    assert done(action) == ("completed", 2, 0)
    assert [fresh(run).status for run in runs] == ["canceled", "canceled", "queued"]
    assert AuditEntry.objects.filter(action="run.cancel").first().actor == f"user operator, bulk {action.pk}"


def test_all_that_match_the_filter_are_taken_and_what_cannot_be_is_left_out(operator):
    wanted = [make_run(Status.FAILED, task="shop.buy") for _ in range(3)]
    others = [make_run(Status.COMPLETED, task="shop.buy"), make_run(Status.FAILED)]
    action = asked(operator, "retry", all="1", query="task=shop.buy")
    assert action.total == 3
    assert done(action) == ("completed", 3, 0)
    assert all(fresh(run).attempt == 2 for run in wanted)
    assert all(fresh(run).attempt == 1 for run in others)


def test_replays_of_a_bulk_replay_are_not_replayed(operator):
    for _ in range(3):
        make_run(Status.COMPLETED)
    assert done(asked(operator, "replay", all="1")) == ("completed", 3, 0)
    assert Run.objects.count() == 6


def test_refusals_are_counted_with_the_last_reason(operator):
    runs = [make_run(Status.COMPLETED), make_run(Status.FAILED)]
    action = asked(operator, "retry", run=[str(run.id) for run in runs] + [str(uuid4())])
    assert done(action) == ("completed", 1, 2)
    assert "there is no run" in fresh(action).last_refusal
    assert "there is no run" in operator.get(f"/triggers/bulk/{action.pk}/").content.decode()


def test_a_run_that_nobody_can_read_is_left_out_with_the_reason_and_those_behind_it_are_done(operator):
    good, bad, last = make_run(Status.FAILED), make_unreadable(), make_run(Status.FAILED)
    action = asked(operator, "replay", run=[str(run.id) for run in (good, bad, last)])
    assert done(action) == ("completed", 2, 1)
    assert "which this process does not read" in fresh(action).last_refusal
    assert set(Run.objects.exclude(replay_of=None).values_list("replay_of", flat=True)) == {good.id, last.id}


def test_an_abort_keeps_what_was_done_and_does_no_more(operator):
    runs = [make_run() for _ in range(4)]
    action = asked(operator, "cancel", all="1")
    bulk._advance_by_one()
    operator.post(f"/triggers/bulk/{action.pk}/abort")
    assert done(action)[:2] == ("aborted", 1)
    assert sum(fresh(run).status == Status.CANCELED for run in runs) == 1
    assert not bulk.abort(action.pk, actor="")


def test_who_dies_in_the_middle_of_one_has_done_it_wholly_or_not_at_all(operator, monkeypatch):
    make_run(Status.COMPLETED)
    action = asked(operator, "replay", all="1")
    apply = bulk._apply

    def die(*args):
        apply(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_apply", die)
        with pytest.raises(KeyboardInterrupt):
            bulk.advance()
    assert Run.objects.count() == 1
    assert done(action) == ("completed", 1, 0)
    assert Run.objects.count() == 2


@pytest.mark.slow
def test_five_hundred_runs_are_canceled_with_progress_by_the_ticker(operator, worker):

    triggers.trigger_many([make_trigger() for _ in range(500)])
    action = asked(operator, "cancel", all="1")
    seen = set()
    for _ in range(500):
        worker.ticker.tick()
        worker.ticker._due.pop("bulk", None)
        page = operator.get(f"/triggers/bulk/{action.pk}/progress").content.decode()
        seen.add(fresh(action).done)
        if "every 1s" not in page:
            break
    assert len(seen) > 2
    assert "500 done of 500" in page
    assert Run.objects.filter(status=Status.CANCELED).count() == 500


@pytest.mark.parametrize("form", [{"verb": "delete"}, {"verb": "cancel"}, {"verb": "cancel", "run": "rubbish"}])
def test_what_cannot_be_is_refused(operator, form):
    assert operator.post("/triggers/bulk/start", form).status_code == 400
    assert BulkAction.objects.count() == 0


def test_a_filter_that_asks_for_a_status_that_is_none_is_refused(operator):
    run = make_run()
    form = {"verb": "cancel", "all": "1", "query": "status=bogus"}
    answer = operator.post("/triggers/bulk/start", form)
    assert answer.status_code == 400
    assert "bogus" in answer.content.decode()
    assert (BulkAction.objects.count(), fresh(run).status) == (0, Status.QUEUED)


def test_more_than_a_thousand_are_chosen_by_a_filter(database):
    with pytest.raises(BadInput):
        bulk.start(BulkVerb.CANCEL, environment=1, actor="", selected=[uuid4()] * 1001)


def test_a_filter_that_nothing_matches_touches_nothing(database):
    run = make_run()
    action = bulk.start(
        BulkVerb.CANCEL, environment=environments.current(), actor="", matching=Selection(task="other", period="all")
    )
    assert done(action) == ("completed", 0, 0)
    assert fresh(run).status == Status.QUEUED
