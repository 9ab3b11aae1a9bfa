"""Traps in workers: requests, strategies and classes of the user's beside ours (see `test_traps_messages`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import Mock

from billiard.einfo import ExceptionInfo
from celery.app.task import Task
from celery.contrib.django.task import DjangoTask
from celery.worker import state
from django.db import transaction
from kombu.message import Message

from tests.acceptance import heard
from tests.acceptance.app import app
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import notes
from tests.acceptance.tasks import add, counted, kinds, loud, plain_kinds
from triggerapp.models import Run
from workers import durable_task
from workers.durable import DurableTask
from workers.request import DurableRequest
from workers.tracer import Suspended

Start = Callable[..., AbstractContextManager[Worker]]


def test_a_users_request_and_strategy_work_beside_ours(on: Worker):
    """Trap 22: either would hide the other."""
    result = loud.delay()
    assert result.get(timeout=120) == "heard"
    wait_until(lambda: len(notes(f"request:{result.id}")) >= 2)
    assert notes(f"request:{result.id}") == ["accepted", "accepted"]
    assert notes(f"strategy:{result.id}") == ["received", "received"]
    wait_until(lambda: Run.objects.get(task_id=result.id).delivered)


def test_the_apps_task_class_is_kept(on: Worker):
    """Trap 23: Django's `delay_on_commit`."""
    task = add._get_current_object()
    assert isinstance(task, DjangoTask) and isinstance(task, DurableTask)
    with transaction.atomic():
        add.delay_on_commit(20, 22)
        assert not Run.objects.filter(task=add.name, created_at__isnull=True).exists()
    run = wait_until(lambda: Run.objects.filter(task=add.name).order_by("-created_at").first())
    assert app.AsyncResult(run.task_id).get(timeout=120) == 42


def test_names_and_registration_are_the_tasks_own(on: Worker):
    assert add.name == "tests.acceptance.tasks.add" and add.__name__ == "add"
    assert add.name in app.tasks and type(counted._get_current_object()).__mro__.count(Task) == 1
    registered = app.control.inspect([on.hostname], timeout=120, limit=1).registered()
    assert add.name in registered[on.hostname]


def test_a_task_over_a_task_keeps_its_options():
    """Our decorator on top of `app.task`, with everything that it was given."""

    @durable_task
    @app.task(name="stacked", bind=True, max_retries=7, rate_limit="1/s", serializer="yaml", acks_late=True)
    def stacked(self: Task) -> str:
        return self.name

    task = app.tasks["stacked"]
    assert isinstance(task, DurableTask)
    assert (task.max_retries, task.rate_limit, task.serializer, task.acks_late) == (7, "1/s", "yaml", True)
    assert task() == "stacked" and stacked.name == "stacked"


def request_of(task: Any, task_id: str, lease: int) -> DurableRequest:
    """A request as the worker's main process makes it."""
    sent = app.amqp.as_task_v2(task_id, task.name, (1, 1), {})
    headers = {**sent.headers, "triggerapp": {"run": task_id, "lease": lease, "eta": None, "expires": None}}
    message = Message(
        body=json.dumps(sent.body),
        channel=Mock(),
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        properties=sent.properties,
        delivery_tag=lease,
        delivery_info={},
    )
    return DurableRequest(message, app=app, task=task, hostname="h", eventer=None, connection_errors=())


def test_a_wake_that_overtakes_the_end_of_its_last_segment_stays_known():
    """Trap 14: `revoke(terminate=True)` would say "tasks unknown" of the new segment."""
    task, task_id = add._get_current_object(), "0b9ad5d6-6c3a-4a59-9d65-000000000001"
    before, after = request_of(task, task_id, 0), request_of(task, task_id, 1)
    state.task_reserved(before)
    state.task_reserved(after)
    try:
        try:
            raise Suspended("suspended")
        except Suspended:
            before.on_failure(ExceptionInfo())
        assert state.requests[task_id] is after
    finally:
        state.task_ready(after)
    assert task_id not in state.requests


def test_extended_results_with_pickled_arguments_end_as_in_plain_celery(worker: Start):
    """Trap 26: the arguments do not fit into the result backend's JSON; the waiting state is left out."""
    with worker("threads", conf={"result_extended": True}):
        fine = add.delay(1, 1)
        durable, plain = (task.apply_async(({1, 2},), serializer="pickle") for task in (kinds, plain_kinds))
        assert fine.get(timeout=120) == 2
        assert json.loads(app.backend.get(app.backend.get_key_for_task(fine.id)))["args"] == [1, 1]
        for result in (durable, plain):
            wait_until(lambda result=result: "internal error" in heard.of(result.id))
        assert durable.state == plain.state  # the end does not fit either: plain Celery tells nobody
    assert Run.objects.get(task_id=durable.id).status == "completed"
