"""The traps of carrying a suspended task through Celery, and where each is tested.

| trap | held by |
|---|---|
| 1 our header leaks into `retry` | `test_requests`, `test_retries`; here: `test_no_header_of_ours_is_seen…` |
| 2 `replace` uses the task id again | `test_retries`: replaced…; `test_producers`: a task id that is used again… |
| 3 arguments changed by the task | `test_requests`: arguments that the task changes… |
| 4 content type | `test_producers`: a message keeps its serializer |
| 5 `expires` and `eta` | `test_limits`: expires…; `test_requests`: headers…, eta… |
| 6 chord keys expire | `test_traps_settings`: a chord's counters… |
| 7, 8 revoke of a waiting run; Celery's revoked set forgets | `test_revoke` |
| 9 rate limit | `test_limits`: a rate limit… |
| 10 STARTED over WAITING | here: `test_a_doubled_message…` |
| 11 WAITING over STARTED | `test_results`: states in the order…, a running task… |
| 12 `before_start`, `__call__` | `test_hooks`; `test_requests`: a base class… |
| 13 direct calls | `test_requests`: a direct call…; `test_eager` |
| 14 wake overtakes the end of a segment | `test_traps_workers`; `test_revoke`: terminate… after a wake |
| 15 `Reject(requeue=True)` | here: `test_reject…` |
| 16 redelivery of a run in progress | here: `test_a_doubled_message…`; `test_restarts`: … reject_on_worker_lost |
| 17 cold shutdown | `test_restarts`: a cold shutdown… |
| 18 WorkerLostError with early acknowledgement | `test_restarts`: a killed child… |
| 19 database handles and forks | `test_pools`: processes that are replaced… |
| 20 `atomic()` around a wait | here: `test_a_wait_within_atomic…` |
| 21 signature of `run` | `test_retries`: retry with other arguments |
| 22 the user's Request and Strategy | `test_traps_workers` |
| 23 the app's Task class | `test_traps_workers` |
| 24 embedded workers | `test_pools`: an embedded worker |
| 25 `chord_unlock` polls | `test_traps_settings`: a check warns |
| 26 `result_extended` with pickle | `test_traps_workers` |
| 27 ETA on Redis | `test_requests`: eta is kept… |
| 28 the queue is gone | here: `test_a_run_wakes_on_the_queue…`, `test_a_queue_that_is_gone…` |
| 29 killed between return and callbacks | `test_restarts`: an end that was not told… |
| 30 a swallowed suspension | here: `test_a_swallowed_suspension…` |
| 31 rpc results | `test_traps_settings`: a check warns |
"""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from tests.acceptance import heard
from tests.acceptance.app import app
from tests.acceptance.cluster import Cluster, Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.runs import make_due, status
from tests.acceptance.tasks import add, retries_by_hand, stays, who
from tests.acceptance.trouble import gated, rejects, rejects_once, swallows, waits_in_transaction
from triggerapp.engine import dispatch, sql
from triggerapp.models import Run
from workers.marks import CONTENT, HEADER


def row_of(result: Any, **changes: Any) -> dict[str, Any]:
    """What the engine sends a run's message from."""
    row = sql.row(f"SELECT {dispatch.COLUMNS} FROM triggerapp_run WHERE task_id = %s", [result.id])
    assert row is not None
    return {**row, **changes}


def test_no_header_of_ours_is_seen_by_the_task_or_kept_in_its_message(on: Worker):
    """Trap 1."""
    result, retried = who.delay(tag := fresh()), retries_by_hand.delay(fresh(), times=1)
    result.get(timeout=120)
    retried.get(timeout=120)
    assert not {HEADER, CONTENT} & set(notes(tag)[-1]["headers"])
    for run in Run.objects.filter(task_id__in=[result.id, retried.id]):
        assert not {HEADER, CONTENT} & dispatch.Message.load(run.message, bytes(run.payload)).headers.keys()


def test_a_doubled_message_is_dropped_wherever_the_run_is(on: Worker):
    """Traps 10 and 16: while it waits (the state stays WAITING), while it runs, after its end."""
    waiting, running, over = stays.delay(tag1 := fresh()), gated.delay(tag2 := fresh()), add.delay(1, 1, pause=0.05)
    over.get(timeout=120)
    wait_until(lambda: status(waiting) == "waiting" and notes(tag2))
    for result in (waiting, running, over):
        now = Run.objects.get(task_id=result.id).lease
        for lease in (0, now - 1 if result is over else now):
            dispatch.publish([row_of(result, lease=lease)])
    wait_until(lambda: heard.of(waiting.id).count("postrun IGNORED") >= 3)
    wait_until(lambda: heard.of(over.id).count("postrun IGNORED") >= 3)
    assert waiting.state == "WAITING" and status(waiting) == "waiting" and notes(tag1) == ["before"]
    assert notes(tag2) == ["before"]
    open_gate(tag2)
    assert running.get(timeout=120) == tag2
    assert notes(tag2) == ["before", "through", "after"]
    assert over.state == "SUCCESS" and over.get() == 2
    waiting.revoke()


def test_reject_with_requeue_goes_on_and_reject_without_fails(on: Worker):
    """Trap 15: the rejected message comes back under a lease that is over; the run goes on all the same."""
    again, never = rejects_once.delay(tag1 := fresh()), rejects.delay(tag2 := fresh())
    assert again.get(timeout=120) == "accepted"
    assert notes(tag1) == ["entered", "entered"]
    wait_until(lambda: status(never) == "failed")
    assert notes(tag2) == ["entered"]


def test_a_wait_within_atomic_is_refused(on: Worker):
    """Trap 20: leaving the function would roll the transaction back."""
    assert waits_in_transaction.delay(fresh()).get(timeout=120) == "WaitInTransaction"


def test_a_swallowed_suspension_is_an_error_that_says_so(on: Worker):
    """Trap 30: `except BaseException` around a wait. By checkpoint there is nothing to swallow."""
    result = swallows.delay(tag := fresh())
    if on.by_checkpoint:
        wait_until(lambda: status(result) == "waiting")
        make_due(result)
        assert (result.get(timeout=120), notes(tag)) == ("as if nothing had been", [])
        return
    with pytest.raises(Exception, match="except Exception"):
        result.get(timeout=120)
    assert notes(tag)[0] == "caught" and status(result) == "failed"


def test_a_run_wakes_on_the_queue_it_was_sent_to(on: Worker, cluster: Cluster):
    """Trap 28: also where another worker's ticker wakes it, which knows no such queue."""
    for pool in ("prefork", "threads"):
        cluster.shared(pool)
    tags = [fresh() for _ in range(5)]
    for result in [who.delay(tag) for tag in tags]:
        result.get(timeout=120)
    assert {seen["routing_key"] for tag in tags for seen in notes(tag)} == {on.queue}


def test_a_queue_that_is_gone_since_a_deploy():
    """Trap 28: an app that makes no queues of its own accord lets today's routing decide."""
    today = Celery("today", set_as_current=False, broker="memory://")
    today.conf.update(task_create_missing_queues=False, task_queues={"new": {}}, task_default_queue="new")

    @today.task(name="moved", queue="new")
    def moved() -> None: ...

    message = dispatch.Message(
        headers={"task": "moved"},
        properties={},
        exchange="",
        routing_key="old",
        content_type="application/json",
        content_encoding="utf-8",
        compression=None,
        body=b"",
    )
    assert dispatch._queue(today, message).name == "new"
    assert dispatch._queue(app, message).name == "old"
