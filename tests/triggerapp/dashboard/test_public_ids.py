"""What commands and the API print of a row leads to its page: its id with the prefix is taken wherever one alone is."""

from __future__ import annotations

from html import unescape

import pytest
from django.test import Client

from tests.browser import scenery
from tests.factories import fresh, make_run
from tests.inprocess import durable
from tests.triggerapp.commands import said
from triggerapp import ids
from triggerapp.engine import batches, environments
from triggerapp.engine.calls import Call
from triggerapp.models import BulkAction, Run, Status

NOBODY = "00000000-0000-0000-0000-000000000000"


@durable
def greet(name: str) -> str:
    """Says hello."""
    return name


def text(client: Client, address: str) -> str:
    """The page that an address leads to."""
    answer = client.get(f"/triggers/{address}", follow=True)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def test_what_a_command_prints_is_the_address_of_the_page(viewer):
    printed = said("trigger", greet.name, '{"name": "you"}').strip()
    run = Run.objects.get()
    assert printed == f"run_{run.pk}"
    answer = viewer.get(f"/triggers/runs/{printed}/?level=info")
    assert (answer.status_code, answer.url) == (307, f"/triggers/runs/{run.pk}/?level=info")
    assert greet.name in text(viewer, f"runs/{printed}/")


def test_so_does_every_other_kind_of_row(viewer):
    made = scenery.ordinary()
    for page, kind, row in (
        ("events", "event", made.event),
        ("bulk", "bulk", made.bulk.pk),
        ("deliveries", "delivery", made.delivery.pk),
        ("schedules", "sched", made.schedule.pk),
    ):
        answer = viewer.get(f"/triggers/{page}/{ids.show(kind, row)}/")
        assert (answer.status_code, answer.url) == (307, f"/triggers/{page}/{row}/")
        assert viewer.get(answer.url).status_code == 200


def test_what_is_posted_to_such_an_address_is_done(operator):
    run = make_run()
    operator.post(f"/triggers/runs/{ids.show('run', run.pk)}/cancel", follow=True)
    assert fresh(run).status == Status.CANCELED


@pytest.mark.parametrize("address", [f"webhooks/{NOBODY}/", f"runs/event_{NOBODY}/", f"runs/run_{NOBODY}/"])
def test_an_id_of_no_such_row_has_no_page(administrator, address):
    assert administrator.get(f"/triggers/{address}", follow=True).status_code == 404


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"runs/{NOBODY}/", f"there is no run run_{NOBODY}; "),
        (f"runs/{NOBODY}/download/payload", f"there is no run run_{NOBODY}"),
        (f"events/{NOBODY}/", f"there is no event event_{NOBODY}; "),
        (f"bulk/{NOBODY}/", f"there is no bulk action bulk_{NOBODY}"),
        (f"schedules/{NOBODY}/", f"there is no schedule sched_{NOBODY}"),
        (f"deliveries/{NOBODY}/", f"there is no delivery delivery_{NOBODY}; "),
    ],
)
def test_a_row_that_is_not_there_is_named_so(viewer, address, says):
    assert says in unescape(viewer.get(f"/triggers/{address}").content.decode())


def test_a_run_is_named_so_where_it_has_no_result_and_where_it_was_replayed(operator):
    run = make_run(Status.FAILED)
    refused = operator.get(f"/triggers/runs/{run.pk}/download/result")
    assert f"run_{run.pk} has no result" in unescape(refused.content.decode())
    replayed = operator.post(f"/triggers/runs/{run.pk}/replay", follow=True)
    assert f"This is the replay of run_{run.pk}." in unescape(replayed.content.decode())


def test_a_list_is_filtered_by_them(viewer):
    call = Call(task=greet.name, payload={"name": "you"})
    batch, (member,) = batches.trigger([call], environment=environments.current(), actor="")
    other = make_run()
    shown = text(viewer, f"runs/?batch={ids.show('batch', batch.id)}")
    assert str(member.run_id) in shown
    assert str(other.pk) not in shown
    assert "is no id of a schedule" not in text(viewer, f"runs/?schedule={ids.show('sched', other.pk)}")


def test_a_bulk_action_is_on_the_runs_that_are_named_so(operator):
    run = make_run()
    operator.post("/triggers/bulk/start", {"verb": "cancel", "run": [ids.show("run", run.pk)]})
    assert BulkAction.objects.get().selected == [run.pk]
