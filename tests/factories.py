"""Rows in any state: a story begins in the middle.

What a factory makes is what the engine would have left, unless the test says otherwise.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import connection
from django.db.models import Model
from django.db.models.functions import Now

from triggerapp.clock import now
from triggerapp.engine import environments, envvars, events, queues, workers
from triggerapp.engine.dispatch import Message
from triggerapp.engine.triggers import Trigger
from triggerapp.engine.waits import Opening
from triggerapp.models import (
    FINAL,
    ApiKey,
    Attempt,
    AuditEntry,
    Batch,
    BatchItem,
    BulkAction,
    Checkpoint,
    Delivery,
    Deployment,
    Destination,
    Endpoint,
    EndpointSecret,
    EnvVar,
    Event,
    FilterShape,
    Firing,
    LogLine,
    Notice,
    Packet,
    Restore,
    Run,
    Schedule,
    SpentToken,
    Start,
    Status,
    Step,
    Subscription,
    Wait,
    WaitKind,
    WaitStatus,
    Worker,
)
from triggerapp.models.runs import new_id

TASK = "tests.task"
QUEUE = "tests"
M = TypeVar("M", bound=Model)


def variables(environment: int) -> dict[str, str]:
    """The values of all environment variables, secret ones too."""
    return {each.name: envvars._revealed(each) for each in envvars.listed(environment)}


def fresh(row: M) -> M:
    """The row as it is now."""
    return type(row)._default_manager.get(pk=row.pk)


def make_message(run_id: UUID | None = None, *args: object, task: str = TASK, **headers: object) -> Message:
    """A message as Celery builds it."""
    task_id = str(run_id or new_id())
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return Message(
        headers={"task": task, "id": task_id, "root_id": task_id, "retries": 0, "ignore_result": True, **headers},
        properties={"correlation_id": task_id},
        exchange="",
        routing_key=QUEUE,
        content_type="application/json",
        content_encoding="utf-8",
        compression=None,
        body=json.dumps([args, {}, embedded]).encode(),
    )


def make_trigger(**fields: Any) -> Trigger:
    """A trigger that is accepted as it is."""
    run_id = fields.setdefault("run_id", new_id())
    fields.setdefault("message", make_message(run_id))
    return Trigger(**{"task": TASK, "queue": QUEUE, **fields})


def make_run(status: Status = Status.QUEUED, **fields: Any) -> Run:
    """A run in this status; while it runs or after, under lease 1 of a worker that lives."""
    environment = fields.pop("environment_id", None) or environments.current()
    run_id = fields.pop("id", None) or new_id()
    message = make_message(run_id)
    values = {
        "task_id": str(run_id),
        "task": TASK,
        "queue_id": queues.identify(environment, fields.pop("queue", QUEUE)),
        "message": message.envelope(),
        "payload": message.body,
        **_of(status),
        **fields,
    }
    run = Run.objects.create(id=run_id, environment_id=environment, status=status, **values)
    if run.lease:
        outcome = status.value if status in FINAL else ""
        Attempt.objects.create(run=run, number=run.attempt, worker=run.worker, outcome=outcome)
    return fresh(run)


def _of(status: Status) -> dict[str, Any]:
    sent = {"sent_at": Now(), "sends": 1}
    started = {"started_at": Now(), "claimed_at": Now(), "lease": 1}
    if status == Status.PENDING:
        return {}
    if status == Status.QUEUED:
        return sent
    if status in (Status.RUNNING, Status.WAITING):
        return {**sent, **started, "worker": make_worker()}
    never_started = status in (Status.EXPIRED, Status.CANCELED)
    return {**sent, **({} if never_started else started), "finished_at": Now(), "delivered": True}


def make_worker(*, alive: bool = True) -> UUID:
    """A worker with a heartbeat, or one whose heart stopped."""
    worker = uuid4()
    workers.beat(worker, hostname="elsewhere", pid=1)
    if not alive:
        workers.leave(worker)
    return worker


def make_unreadable(status: Status = Status.FAILED, *, payload: bytes = b"cos\nsystem\n", **envelope: Any) -> Run:
    """A run whose payload is a pickle that must not be opened, unless `envelope` says something else of its message."""
    run = make_run(status)
    message = {**json.loads(run.message), "content_type": "application/x-python-serialize", **envelope}
    Run.objects.filter(pk=run.pk).update(payload=payload, message=json.dumps(message))
    return fresh(run)


def make_step(run: Run, key: str, value: object = None, **fields: Any) -> Step:
    """A recorded step."""
    defaults = {"digest": "0" * 64, "lease": run.lease, "attempt": run.attempt, "value": json.dumps(value)}
    return Step.objects.create(run=run, key=key, **{**defaults, "started_at": now(), **fields})


def make_wait(run: Run | None, kind: WaitKind = WaitKind.TIMER, **fields: Any) -> Wait:
    """A wait that `run` is suspended on, if it is waiting; pending unless `status` says otherwise."""
    environment = run.environment_id if run else environments.current()
    values = {"key": "sleep#1", "status": WaitStatus.PENDING, **fields}
    wait = Wait.objects.create(run=run, environment_id=environment, kind=kind, **values)
    if run is not None and run.status == Status.WAITING and run.waiting_on is None:
        Run.objects.filter(pk=run.pk).update(waiting_on=wait.pk)
    return wait


def make_event_wait(run: Run, name: str, filter: dict[str, Any] | None = None, **fields: Any) -> Wait:
    """A wait for an event."""
    signatures = events.subscribe(run.environment_id, name, filter or {})
    values = {"key": f"for_event:{name}#1", "name": name, "filter": filter or {}, "signatures": signatures, **fields}
    return make_wait(run, WaitKind.EVENT, **values)


def make_waiting(name: str, filter: dict[str, Any] | None = None, **fields: Any) -> Wait:
    """A run that waits for an event."""
    return make_event_wait(make_run(Status.WAITING), name, filter, **fields)


def make_event(name: str, payload: object = "", *, age: timedelta = timedelta(), **fields: Any) -> Event:
    """An event that was sent `age` ago, and that nobody waited for."""
    environment = environments.current()
    return Event.objects.create(
        environment_id=environment, name=name, payload=payload, created_at=now() - age, **fields
    )


def timer(pause: timedelta = timedelta(days=1), key: str = "sleep#1") -> Opening:
    """What `wait.sleep` opens."""
    return Opening(key=key, kind=WaitKind.TIMER, deadline=pause)


def for_event(name: str, filter: dict[str, Any] | None = None, **fields: Any) -> Opening:
    """What `wait.for_event` opens."""
    values = {"key": f"for_event:{name}#1", "deadline": timedelta(hours=1), **fields}
    return Opening(kind=WaitKind.EVENT, name=name, filter=filter or {}, **values)


def everything() -> dict[str, list[dict[str, Any]]]:
    """All rows, to see that nothing was written."""
    tables = (Run, Attempt, Step, Wait, Event, AuditEntry)
    return {table.__name__: list(table._default_manager.order_by("pk").values()) for table in tables}


large: set[str] = set()
"""Tables that a test made large. Deleting their rows one by one leaves pages that every later test would read."""


def delete_everything() -> None:
    """All rows but environments and queues, whose ids this process keeps."""
    tables = (Checkpoint, Restore, Step, Wait, Attempt, Run, Event, FilterShape, AuditEntry, Worker, BatchItem, Batch)
    tables += (ApiKey, SpentToken, BulkAction, Firing, Schedule, Deployment, EnvVar, LogLine, Packet)
    tables += (Subscription, Start, Delivery, EndpointSecret, Endpoint, Notice, Destination)
    statements = [f"TRUNCATE {table} CASCADE" for table in large]
    statements += [f"DELETE FROM {table._meta.db_table}" for table in tables]
    with connection.cursor() as cursor:
        cursor.execute("; ".join([*statements, _USUAL_QUEUES]))
    large.clear()


_USUAL_QUEUES = (
    "UPDATE triggerapp_queue SET paused = false, override = NULL, overridden_at = NULL, overridden_by = NULL "
    "WHERE paused OR override IS NOT NULL"
)
