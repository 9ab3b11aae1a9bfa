"""Events: Flower, which knows no durable runs, shows the right state at each moment (Celery's own event machine)."""

from __future__ import annotations

from tests.acceptance import watch
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.runs import make_due
from tests.acceptance.tasks import boom, durable_without_events, for_event, retries_by_hand, stays
from tests.acceptance.trouble import gated_after_wait
from workers import events

SEGMENT = ["task-received", "task-started"]


def test_events_of_a_suspended_run(on: Worker):
    result = stays.delay(tag := fresh())
    wait_until(lambda: "task-waiting" in watch.types(result.id))  # else the wake might overtake it
    make_due(result)
    assert result.get(timeout=120) == tag
    wait_until(lambda: "task-succeeded" in watch.types(result.id))
    assert watch.types(result.id) == [*SEGMENT, "task-waiting", *SEGMENT, "task-succeeded"]
    sent = [event for event in watch.events(result.id) if event["type"] == "task-sent"]
    assert len(sent) == 1
    waiting, again = (watch.events(result.id)[watch_index] for watch_index in _indexes(result.id))
    assert waiting["result"].startswith("suspended: timer") and "1:00:00" in waiting["result"]
    assert again["state"] == "STARTED" and again["result"] is None


def _indexes(task_id: str) -> list[int]:
    types = [event["type"] for event in watch.events(task_id)]
    waiting = types.index("task-waiting")
    return [waiting, types.index("task-started", waiting)]


def test_what_flower_shows_at_each_moment(on: Worker):
    result = gated_after_wait.delay(tag := fresh())
    wait_until(lambda: watch.state_of(result.id) == "WAITING")
    events.send("go", {"tag": tag, "value": 1})
    wait_until(lambda: notes(tag) == ["resumed"])
    wait_until(lambda: watch.state_of(result.id) == "STARTED")
    open_gate(tag)
    wait_until(lambda: watch.state_of(result.id) == "SUCCESS")


def test_failures_and_retries_show_as_in_celery(on: Worker):
    failed, retried = boom.delay(), retries_by_hand.delay(fresh(), times=1)
    assert retried.get(timeout=120) == [1]
    wait_until(lambda: watch.state_of(failed.id) == "FAILURE")
    # As in Celery, the slot that tries again at once may be done before the other has told that it is to.
    wait_until(lambda: {"task-waiting", "task-retried", "task-succeeded"} <= set(watch.types(retried.id)))
    assert [watch.types(failed.id).count(told) for told in ("task-failed", "task-retried")] == [1, 0]
    assert [watch.types(retried.id).count(told) for told in ("task-retried", "task-succeeded")] == [1, 1]


def test_a_task_that_sends_no_events_sends_none_of_ours(on: Worker):
    result = durable_without_events.delay()
    assert result.get(timeout=120) == "quiet"
    other = for_event.delay(tag := fresh())
    wait_until(lambda: watch.state_of(other.id) == "WAITING")
    events.send("go", {"tag": tag, "value": 1})
    other.get(timeout=120)
    assert watch.types(result.id) == []
