"""Tasks that call others: directly, as children, and as children they wait for."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.app.task import Task

from tests.acceptance.ledger import note
from tests.acceptance.tasks import ONCE, add, plain_add, stays
from workers import durable_task, wait
from workers.errors import NotInRun


@durable_task(bind=True, retry=ONCE)
def calls_directly(self: Task, x: int) -> Any:
    """A direct call, and `.apply()`, of a durable task in a durable run: the same journal, the same run."""
    inner = add(x, 1)
    applied = add.apply((x, 2)).get(disable_sync_subtasks=False)
    return [inner, applied, self.request.id]


@durable_task(retry=ONCE)
def recurses(times: int) -> int:
    """Calls itself directly; each call waits."""
    wait.sleep(0.05)
    return times + (recurses(times - 1) if times else 0)


@durable_task(bind=True, retry=ONCE)
def spawns(self: Task, tag: str) -> Any:
    """Children before and after a wait, not waited for."""
    first = add.delay(1, 1)
    wait.sleep(0.1)
    second = plain_add.delay(2, 2)
    note(tag, [first.id, second.id])
    return [first.id, second.id]


@durable_task(retry=ONCE)
def parent_of(tag: str, pause: float = 3600) -> Any:
    """A child that waits long, waited for."""
    return stays.trigger_and_wait(f"{tag}:child", pause).unwrap()


@durable_task(retry=ONCE)
def joins() -> str:
    """`get()` inside a task stays refused."""
    wait.sleep(0.05)
    try:
        plain_add.delay(1, 1).get(timeout=1)
    except RuntimeError as error:
        return str(error)
    return "not refused"


@shared_task
def plain_waits() -> str:
    """A plain task that calls what only a run can do."""
    try:
        add(1, 1)
    except NotInRun as error:
        return str(error)
    return "waited"
