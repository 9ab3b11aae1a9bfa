"""What a task sees of itself is the same before and after a suspension, and the same as in plain Celery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain
from celery.canvas import StampingVisitor

from tests.acceptance.app import app
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.nested import calls_directly, joins, plain_waits, recurses, spawns
from tests.acceptance.tasks import add, counted, ignored, mutates, plain_note, who
from tests.acceptance.trouble import gated
from triggerapp.models import Run, Wait

pytestmark = pytest.mark.usefixtures("on")


def both_sights(tag: str) -> list[Any]:
    """The task's request before the wait and after it."""
    wait_until(lambda: len(notes(tag)) >= 2)
    before, *_, after = notes(tag)
    assert before["headers"] == after["headers"]
    return [before, after]


def test_the_request_is_the_same_before_and_after():
    tag = fresh()
    assert (result := who.delay(tag)).get(timeout=120) == result.id
    before, *_, after = notes(tag)
    assert before == after
    assert (before["id"], before["root_id"], before["parent_id"], before["retries"]) == (result.id, result.id, None, 0)
    assert before["called_directly"] is False


def test_headers_properties_and_options_of_the_call_are_kept():
    """Traps 1 and 5: our own header is not among them, and `expires` shows, though it is not sent again."""
    tag = fresh()
    expires = datetime.now(UTC) + timedelta(hours=1)
    who.apply_async(
        (tag,),
        headers={"custom": {"deep": [1]}},
        priority=7,
        expires=expires,
        shadow="shadow.name",
        app_id="the-app",
        time_limit=60,
    ).get(timeout=120)
    before, *_, after = notes(tag)
    assert before == after
    assert before["custom"] == {"deep": [1]} and before["priority"] == 7 and before["app_id"] == "the-app"
    assert datetime.fromisoformat(before["expires"]) == expires
    assert before["shadow"] == "shadow.name" and before["timelimit"][0] == 60
    assert "triggerapp" not in before["headers"]


def test_eta_is_kept_and_no_message_waits_for_it():
    """Trap 27: a message that waits for its ETA is delivered again by Redis; ours are sent when it is time."""
    tag = fresh()
    eta = datetime.now(UTC) + timedelta(seconds=0.5)
    result = who.apply_async((tag,), eta=eta)
    assert result.get(timeout=120) == result.id
    assert datetime.now(UTC) > eta
    before, *_, after = notes(tag)
    assert datetime.fromisoformat(before["eta"]) == eta == datetime.fromisoformat(after["eta"])


def test_stamps_are_kept_and_handed_on():
    class Stamps(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"order": "A-1"}

    tags = [fresh(), fresh()]
    flow = chain(who.si(tags[0]), who.si(tags[1]))
    flow.stamp(Stamps())
    flow.delay().get(timeout=120)
    for tag in tags:
        before, *_, after = notes(tag)
        assert before == after
        assert before["stamped_headers"] == ["order"] and before["stamps"]["order"] in ("A-1", ["A-1"])


def test_root_and_parent_ids_through_a_chain():
    tags = [fresh(), fresh(), fresh()]
    result = chain(*(who.si(tag) for tag in tags)).delay()
    result.get(timeout=120)
    ids = [result.parent.parent.id, result.parent.id, result.id]
    for tag, parent in zip(tags, [None, *ids], strict=False):
        before, *_, after = notes(tag)
        assert (before["root_id"], before["parent_id"]) == (ids[0], parent)
        assert before == after


def test_links_and_the_rest_of_a_chain_show_in_the_request():
    tag, other = fresh(), fresh()
    chain(who.s(tag), plain_note.s(other)).apply_async().get(timeout=120)
    before, *_, after = notes(tag)
    assert before == after and before["chain"] == 1


def test_arguments_that_the_task_changes_are_sent_again_as_they_came():
    """Trap 3."""
    assert mutates.delay([1, 2]).get(timeout=120) == [1, 2, 2]


def test_children_of_before_and_after_the_wait_are_the_results_children():
    result = spawns.delay(tag := fresh())
    ids = result.get(timeout=120)
    assert notes(tag) == [ids]
    assert sorted(child.id for child in result.children) == sorted(ids)
    assert [child.get(timeout=120) for child in result.children] == [2, 4]


def test_a_direct_call_and_apply_within_a_run_are_part_of_it():
    """Trap 13: Celery gives a direct call a copy of the request, with the same id."""
    result, recursion = calls_directly.delay(1), recurses.delay(2)
    assert result.get(timeout=120) == [2, 3, result.id]
    assert recursion.get(timeout=120) == 3
    for each, waits in ((result, 2), (recursion, 3)):
        assert Run.objects.get(task_id=each.id).waits.count() == waits


def test_a_base_class_keeps_its_call_and_its_attributes(on: Worker):
    """Trap 12: a `__call__` of the user's runs at each entry."""
    tag = fresh()
    assert counted.delay(tag).get(timeout=120) == "counted"
    assert notes(f"{tag}:calls") == ["tests.acceptance.tasks.counted"] * (1 if on.by_checkpoint else 2)


def test_a_plain_task_beside_a_run_is_no_part_of_it():
    """Also where a pool of threads has just that one run: its journal is not for others to write."""
    running = gated.delay(tag := fresh())
    wait_until(lambda: notes(tag))
    assert "outside" in plain_waits.delay().get(timeout=120)
    open_gate(tag)
    assert running.get(timeout=120) == tag
    assert not Wait.objects.filter(run__task_id=running.id).exists()


def test_get_within_a_task_stays_refused():
    assert "Never call result.get() within a task" in joins.delay().get(timeout=120)


def test_nothing_is_stored_of_ignored_results():
    tag, late_tag = fresh(), fresh()
    by_decorator = ignored.delay(tag)
    by_call = add.apply_async((1, 1), ignore_result=True, link=plain_note.s(late_tag))
    wait_until(lambda: notes(tag) and notes(late_tag))
    assert notes(tag) == ["ran"]
    for result in (by_decorator, by_call):
        assert app.backend.get(app.backend.get_key_for_task(result.id)) is None
