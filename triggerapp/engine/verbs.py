"""What people and programs do to a run from outside: cancel, retry, replay.

Each writes an audit entry. None needs a lease: the table of moves judges.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from triggerapp import conf, ids
from triggerapp.engine import (
    audit,
    carrying,
    deployments,
    dispatch,
    encoding,
    environments,
    limits,
    queues,
    rescue,
    sql,
    triggers,
    wakes,
)
from triggerapp.engine.dispatch import Message
from triggerapp.errors import BadInput, IllegalMove, Undecodable
from triggerapp.failpoints import point
from triggerapp.models import LIVE, Run, Status, WaitStatus
from triggerapp.models.moves import move_sql
from triggerapp.models.runs import new_id

Json = Any
Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_NOT_TOLD: tuple[type[Exception], ...] = (*dispatch.UNREACHABLE, Undecodable)


def cancel(run_id: UUID, *, actor: str = "") -> bool:
    """Stop a live run and its children; False if it was over. What runs stops when it next records or waits."""
    moved = move_sql(Status.CANCELED, "finished_at = now(), due_at = NULL", "id = %s", returning="*")
    with transaction.atomic():
        point("cancel.before_commit")
        ended = sql.row(
            "WITH before AS (SELECT status FROM triggerapp_run WHERE id = %s), "
            f"moved AS ({moved}), told AS ({wakes.TELL_PARENT.format(ended='moved')}), "
            f"noted AS ({wakes.NOTE_END.format(ended='moved')}), closed AS ("
            "UPDATE triggerapp_attempt a SET finished_at = now(), outcome = 'canceled' FROM moved "
            "WHERE a.run_id = moved.id AND a.number = moved.attempt) "
            "SELECT id, task_id, status, message, payload, environment_id, delivered, "
            "(SELECT status FROM before) AS was, (SELECT id FROM told WHERE status <> 'pending') AS wake FROM moved",
            [run_id, run_id],
        )
        if ended is None:
            return False
        _cancel_waits(run_id)
        if ended["was"] == Status.RUNNING:
            sql.notify()  # its worker's ticker tells the process that runs it
        audit.record(ended["environment_id"], actor, "run.cancel", run_id, after={"status": Status.CANCELED})
        transaction.on_commit(partial(_after_cancel, ended))
    return True


def _cancel_waits(run_id: UUID) -> None:
    sql.run(
        "UPDATE triggerapp_wait SET status = %s, resolved_by = %s, resolved_at = now(), woken = true WHERE id IN "
        "(SELECT id FROM triggerapp_wait WHERE run_id = %s AND status = 'pending' ORDER BY id FOR UPDATE)",
        [WaitStatus.CANCELED.value, wakes.BY_END, run_id],
    )


def _after_cancel(ended: sql.Row) -> None:
    point("cancel.after_commit")
    if ended["wake"] is not None:
        wakes.wake([ended["wake"]])
    for child in Run.objects.filter(parent_id=ended["id"], parent_key__isnull=False, status__in=LIVE).only("id"):
        cancel(child.id, actor=f"parent run {ended['id']}")
    if ended["delivered"]:  # only its rollbacks were left
        return
    if ended["environment_id"] != environments.current():  # on another broker, where a tick of its own tells it
        return
    try:
        rescue.announce_canceled(ended)
        if ended["was"] in (Status.WAITING, Status.PENDING):  # else the worker that has its message tells them
            dispatch.tell_monitors_revoked(ended["task_id"], Message.load(ended["message"], ended["payload"]))
    except _NOT_TOLD as error:
        dispatch.log.warning("Celery was not told that run %s was canceled (%s); a tick tells it", ended["id"], error)


_CANCELED_UNDER = sql.Hot(
    "SELECT id FROM triggerapp_run WHERE status = 'canceled' AND worker = %s AND finished_at > now() - %s::interval"
)


def canceled_under(worker: UUID) -> list[UUID]:
    """The runs that this worker had last, and that were canceled within a lease's time."""
    return [row["id"] for row in sql.rows(_CANCELED_UNDER, [worker, conf.get().LEASE])]


def cancel_orphans(limit: int = 100) -> int:
    """Cancel live children of canceled runs, whose canceler died before it came to them; how many."""
    orphans = sql.rows(
        "SELECT c.id FROM triggerapp_run p JOIN triggerapp_run c ON c.parent_id = p.id AND c.parent_key IS NOT NULL "
        "WHERE p.environment_id = %s AND p.status = 'canceled' AND p.finished_at > now() - interval '1 hour' "
        "AND c.status IN ('pending', 'queued', 'running', 'waiting') LIMIT %s",
        [environments.current(), limit],
    )
    return sum(cancel(row["id"], actor="parent run") for row in orphans)


def cancel_task(task_id: str, *, actor: str = "") -> bool:
    """Cancel what runs under a Celery task id: Celery's `revoke`."""
    run = Run.objects.filter(task_id=task_id).order_by("-nesting").only("id").first()
    return run is not None and cancel(run.id, actor=actor)


_STAMPED = """
SELECT DISTINCT r.id FROM jsonb_each(%s::jsonb) wanted, triggerapp_run r,
  LATERAL (SELECT r.message::jsonb #> ARRAY['headers', 'stamps', wanted.key] AS found) stamp,
  LATERAL jsonb_array_elements(
    CASE jsonb_typeof(stamp.found) WHEN 'array' THEN stamp.found ELSE jsonb_build_array(stamp.found) END) AS one
WHERE r.status IN ('pending', 'queued', 'running', 'waiting') AND stamp.found IS NOT NULL AND wanted.value @> one
"""


def cancel_stamped(stamps: Mapping[str, Any], *, actor: str = "") -> int:
    """Cancel the live runs that carry one of these stamps: Celery's `revoke_by_stamped_headers`; how many."""
    wanted = {name: list(v) if isinstance(v, (list, tuple, set)) else [v] for name, v in stamps.items()}
    found = sql.rows(_STAMPED, [json.dumps(wanted)])
    return sum(cancel(row["id"], actor=actor) for row in found)


_RETRY = move_sql(
    Status.PENDING,
    "attempt = attempt + 1, crashes = 0, computed = interval '0', finished_at = NULL, error = NULL, delivered = false, "
    "due_at = NULL, sent_at = NULL, sends = 0, lease = lease + 1",
    "id = %s AND finished_at IS NOT NULL",
)
_RETRIABLE = (Status.FAILED, Status.CRASHED, Status.TIMED_OUT)


def retry(run_id: UUID, *, actor: str = "") -> None:
    """Go on with a failed run from the step that failed.

    Raises `IllegalMove` if the run did not fail, or if its rollbacks ran: then there is nothing to go on from.
    """
    with transaction.atomic():
        run, shown = _locked(run_id), ids.show("run", run_id)
        if run.status not in _RETRIABLE:
            raise IllegalMove(f"{shown} is {run.status}: only a failed run can be retried; replay it instead")
        if carrying.was_rolled_back(run):
            raise IllegalMove(f"{shown} was rolled back, there is nothing to go on from: replay it instead")
        failed = (run.error or {}).get("steps", [])
        sql.run(
            "UPDATE triggerapp_step SET superseded = true WHERE run_id = %s AND key = ANY(%s) AND error IS NOT NULL",
            [run_id, failed],
        )
        if run.parent_wait is not None:  # the failure was told; the end of this new try will be told again
            sql.run(
                "UPDATE triggerapp_wait SET remaining = remaining + 1 WHERE id = %s AND status = 'pending'",
                [run.parent_wait],
            )
        _reopen_waits(run_id)
        sql.rows(_RETRY, [run_id])
        audit.record(run.environment_id, actor, "run.retry", run_id, before={"status": run.status})
        transaction.on_commit(queues.admit)


def _reopen_waits(run_id: UUID) -> None:
    """What the run's end closed is open again: a token, whose URL is out there, as it was and for as long as it was.

    Timers and events are forgotten, and opened by the code when it comes to them, under the lock that events need.
    """
    closed = "run_id = %s AND status = 'canceled' AND resolved_by = %s AND kind"
    sql.run(f"DELETE FROM triggerapp_wait WHERE {closed} IN ('timer', 'event')", [run_id, wakes.BY_END])
    sql.run(
        "UPDATE triggerapp_wait SET status = 'pending', resolved_by = '', resolved_at = NULL, woken = false, "
        f"opened_at = now(), expires_at = now() + (expires_at - opened_at) WHERE {closed} = 'token'",
        [run_id, wakes.BY_END],
    )


def _locked(run_id: UUID) -> Run:
    run = Run.objects.select_for_update().filter(pk=run_id).first()
    if run is None:
        raise ids.missing("run", run_id)
    return run


def replay(
    run_id: UUID,
    *,
    actor: str = "",
    message: Message | None = None,
    arguments: Arguments | None = None,
    environment: int | None = None,
    changes: Mapping[str, Any] | None = None,
    from_step: str | None = None,
) -> triggers.Triggered:
    """Do it again: a new run of the same task with the same payload (or that of `message`, or other `arguments`).

    `changes` are fields of `triggers.Trigger` that are not to be those of the first run. With `from_step` what was
    done before that step began is not done again: the new run has it from the first one's journal. Raises `Undecodable`
    if the payload has to be read, and cannot be.
    """
    owner = environment or environments.current()
    run = Run.objects.select_related("queue").filter(pk=run_id, environment_id=owner).first()
    if run is None:
        raise ids.missing("run", run_id, " in this environment")
    fresh = new_id()
    again = _as_new(message or Message.load(run.message, bytes(run.payload)), fresh, arguments)
    request = _changed(_again(run, fresh, again), changes or {}, owner)
    if from_step is not None:
        return _replay_from(run, from_step, request, actor)
    with transaction.atomic():
        triggered = triggers.trigger(request, environment=owner)
        told = {"run": str(triggered.run_id), **_version_of(request)}
        audit.record(owner, actor, "run.replay", run_id, after=told)
    return triggered


def _replay_from(run: Run, step: str, request: triggers.Trigger, actor: str) -> triggers.Triggered:
    """It is admitted like a delayed run, in a moment: what it begins with must be there when its message is sent."""
    limits.check_text("the step", step)
    if request.idempotency_key is not None:
        raise BadInput("a replay from a step is always a new run: it takes no idempotency key")
    with transaction.atomic():
        pending = dataclasses.replace(request, delay=request.delay or timedelta())
        triggered = triggers.trigger(pending, environment=run.environment_id)
        carrying.carry_over(run, triggered.run_id, until=step)
        told = {"run": str(triggered.run_id), "from_step": step, **_version_of(request)}
        audit.record(run.environment_id, actor, "run.replay", run.id, after=told)
        sql.after_commit(queues.admit)
    return triggered


def _changed(request: triggers.Trigger, changes: Mapping[str, Any], environment: int) -> triggers.Trigger:
    """With these fields instead, and its message for the queue that is named."""
    if changes.get("version"):
        deployments.check(environment, changes["version"])
    if "queue" in changes:
        elsewhere = dataclasses.replace(request.message, exchange="", routing_key=changes["queue"])
        request = dataclasses.replace(request, message=elsewhere)
    return dataclasses.replace(request, **changes)


def _version_of(request: triggers.Trigger) -> dict[str, Json]:
    return {"version": request.version} if request.version else {}


def _again(run: Run, fresh: UUID, message: Message) -> triggers.Trigger:
    return triggers.Trigger(
        task=run.task,
        run_id=fresh,
        message=message,
        queue=run.queue.name,
        replay_of=run.id,
        max_duration=run.max_duration,
        max_attempts=run.max_attempts,
        concurrency_key=run.concurrency_key,
        priority=run.priority,
        tags=run.tags,
        metadata=run.metadata,
    )


def _as_new(message: Message, run_id: UUID, arguments: Arguments | None = None) -> Message:
    """The same call under a new task id, outside of the canvas that the first one belonged to."""
    content_type, content_encoding, body = _body(message, arguments)
    outside: dict[str, Json] = dict.fromkeys(("group", "group_index", "parent_id", "eta", "expires"))
    headers = {**message.headers, **outside, "id": str(run_id), "root_id": str(run_id), "retries": 0}
    properties = {**message.properties, "correlation_id": str(run_id)}
    return Message(
        headers=headers,
        properties=properties,
        exchange=message.exchange,
        routing_key=message.routing_key,
        content_type=content_type,
        content_encoding=content_encoding,
        compression=message.compression,
        body=body,
        alone=True,
    )


def _body(message: Message, arguments: Arguments | None) -> tuple[str, str, bytes]:
    """Arguments and nothing else. The bytes are passed on unread where they hold no more, whatever they are."""
    if arguments is None and message.alone:
        return message.content_type, message.content_encoding, message.body
    args, kwargs = arguments or message.arguments()
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return encoding.encode((args, kwargs, nothing), dispatch.serializer_of(message))


def reschedule(run_id: UUID, delay: triggers.Deadline, *, actor: str = "") -> None:
    """Move the start of a delayed run. Raises `IllegalMove` once it has started."""
    limits.check_deadline("delay", delay)
    at, after = triggers.moment(delay)
    with transaction.atomic():
        changed = sql.row(
            "WITH before AS (SELECT due_at FROM triggerapp_run WHERE id = %s FOR UPDATE) "
            "UPDATE triggerapp_run SET due_at = COALESCE(%s::timestamptz, now() + %s::interval), updated_at = now() "
            "WHERE id = %s AND status = 'pending' AND started_at IS NULL "
            "RETURNING environment_id, due_at, (SELECT due_at FROM before) AS was",
            [run_id, at, after, run_id],
        )
        if changed is None:
            raise IllegalMove(f"{ids.show('run', run_id)} is not delayed any more")
        told = {name: str(changed[name]) for name in ("was", "due_at")}
        audit.record(
            changed["environment_id"], actor, "run.reschedule", run_id, before=told["was"], after=told["due_at"]
        )
        sql.after_commit(sql.notify)
