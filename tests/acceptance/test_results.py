"""Results: a client sees one task that took a while."""

from __future__ import annotations

from typing import Any

import pytest
from celery.contrib.abortable import AbortableAsyncResult
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult

from tests.acceptance.app import app
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.tasks import abortable, add, boom, for_event, plain_errback, progresses, stays
from tests.acceptance.trouble import gated, interrupted, too_large
from triggerapp.models import Run
from workers import events
from workers.errors import RecordedError


def states_until_the_end(result: Any, tag: str) -> list[str]:
    """What a client hears that listens while the task waits for its event, which is sent when it hears so."""
    seen: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["status"] == "WAITING" and "WAITING" not in seen:
            events.send("go", {"tag": tag, "value": 42})
        seen.append(message["status"])

    assert result.get(timeout=120, on_message=hear) == 42
    return seen


def test_get_blocks_through_a_suspension_and_sees_it(on: Worker):
    result = for_event.delay(tag := fresh())
    assert "WAITING" in (seen := states_until_the_end(result, tag)) and seen[-1] == "SUCCESS"
    assert result.state == "SUCCESS"


def test_the_state_while_waiting(on: Worker):
    result = for_event.delay(tag := fresh())
    wait_until(lambda: result.state == "WAITING")
    assert result.ready() is False and result.successful() is False
    assert "for_event" not in str(result.result) and "event go" in result.info["waiting"]
    with pytest.raises(CeleryTimeout):
        result.get(timeout=0.1)
    events.send("go", {"tag": tag, "value": 42})
    assert result.get(timeout=120) == 42


def test_a_waiting_run_holds_no_worker(on: Worker):
    """Not in `inspect`, not unacknowledged, and both slots are free for others."""
    tags = [fresh() for _ in range(4)]
    waiting = [stays.delay(tag) for tag in tags]
    for result in waiting:
        wait_until(lambda result=result: Run.objects.get(task_id=result.id).status == "waiting")
    assert add.delay(1, 1).get(timeout=120) == 2
    inspect = app.control.inspect([on.hostname], timeout=120, limit=1)
    ids = {result.id for result in waiting}
    for found in (inspect.active(), inspect.reserved(), inspect.scheduled()):
        assert not ids & {str(one.get("id", one)) for one in (found or {}).get(on.hostname, [])}
    for result in waiting:
        result.revoke()


def test_the_tasks_error_arrives_as_its_own(on: Worker):
    result = boom.delay("own")
    with pytest.raises(ValueError, match="own"):
        result.get(timeout=120)
    assert "boom" in result.traceback


def test_an_error_that_is_no_exception_fails_the_run_and_is_told_once(on: Worker):
    result = interrupted.apply_async((tag := fresh(),), link_error=[plain_errback.s(tag)])
    with pytest.raises(RecordedError, match="CancelledError: by its own code"):
        result.get(timeout=120)
    wait_until(lambda: Run.objects.get(task_id=result.id).delivered)
    wait_until(lambda: len(notes(tag)) >= 2)
    assert notes(tag) == ["entered", [result.id, "asyncio.exceptions:CancelledError: by its own code"]]
    assert Run.objects.get(task_id=result.id).status == "failed"


def test_a_memory_error_fails_its_run_and_not_its_worker(on: Worker):
    result = too_large.apply_async((tag := fresh(),), link_error=[plain_errback.s(tag)])
    with pytest.raises(MemoryError, match="too large"):
        result.get(timeout=120)
    wait_until(lambda: Run.objects.get(task_id=result.id).delivered)
    wait_until(lambda: len(notes(tag)) >= 2)
    assert notes(tag) == ["entered", [result.id, "too large"]]
    assert add.delay(1, 1).get(timeout=120) == 2


def test_a_result_is_found_by_its_id_alone(on: Worker):
    assert AsyncResult(add.delay(1, 1).id, app=app).get(timeout=120) == 2


def test_a_running_task_shows_started_again_and_a_users_own_state_stays(on: Worker):
    """Trap 11: without `track_started` the backend would say WAITING while the task runs again."""
    result = gated.delay(tag := fresh())
    slow = progresses.delay(other := fresh())
    wait_until(lambda: notes(other) == ["halfway"])
    assert slow.state == "PROGRESS" and slow.info == {"done": 2}
    open_gate(other)
    open_gate(tag)
    assert slow.get(timeout=120) == "done" and result.get(timeout=120) == tag


def test_states_in_the_order_they_were(prefork: Worker):
    """Trap 11. Who listens is told what is stored first."""
    seen = states_until_the_end(for_event.delay(tag := fresh()), tag)
    assert seen[-3:] == ["WAITING", "STARTED", "SUCCESS"]
    assert seen[:-3] in ([], ["WAITING"])


def test_abort_of_a_waiting_task_is_there_to_be_read(prefork: Worker):
    """Trap 11, for Celery's `AbortableTask`: our states do not overwrite ABORTED."""
    aborted, other = abortable.delay(tag1 := fresh()), abortable.delay(tag2 := fresh())
    wait_until(lambda: aborted.state == "WAITING" and other.state == "WAITING")
    AbortableAsyncResult(aborted.id, app=app).abort()
    for tag in (tag1, tag2):
        events.send("go", {"tag": tag, "value": 1})
    assert [aborted.get(timeout=120), other.get(timeout=120)] == [True, False]
