"""Subscriptions: which tasks an event starts, and starting them, once each.

What the code says is kept in rows, because the process that accepts an event need not have the tasks. The event's own
transaction notes which tasks it starts; a ticker whose app has the task makes run and answer to the note one commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from triggerapp.engine import audit, calls, catalog, environments, filters, limits, sql, triggers
from triggerapp.errors import TriggerError
from triggerapp.failpoints import point
from triggerapp.models import Subscription

log = logging.getLogger(__name__)

Json = Any
GRACE = timedelta(minutes=10)
"""A subscription that no worker of its app has had for so long is taken back: others may run older code meanwhile."""
ANY_TYPE = "*"
_WEBHOOKS = "webhook/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """That a task is to be started by each event of a name that matches a filter."""

    task: str
    name: str
    filter: Json = field(default_factory=dict)


def of_code() -> tuple[str, list[Wanted]]:
    """The name of this project's Celery app, and what its tasks are subscribed to."""
    app, found = catalog.subscriptions()
    return app, [Wanted(task=task, name=on.name, filter=on.filter or {}) for task, on in found]


def check(name: str, filter: Json) -> None:
    """Refuse what no event can be. Raises `BadInput`."""
    limits.check_text("an event's name", name)
    filters.check(filter or {})


_RENEW = (
    "INSERT INTO triggerapp_subscription (environment_id, app, task, name, filter, digest) "
    "VALUES (%s, %s, %s, %s, %s::jsonb, %s) "
    "ON CONFLICT (environment_id, name, task, app, digest) DO UPDATE SET seen_at = now()"
)


def renew(app: str, wanted: Iterable[Wanted]) -> None:
    """Note that a worker with this code is here."""
    environment = environments.current()
    for each in sorted(wanted, key=lambda each: (each.name, each.task)):  # in one order: two tickers do not deadlock
        text = json.dumps(each.filter, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        sql.run(_RENEW, [environment, app, each.task, each.name, text, digest])


def take_back(app: str, *, unseen_for: timedelta = GRACE) -> int:
    """Forget what no worker of this app says any more; how many."""
    return sql.run(
        "DELETE FROM triggerapp_subscription WHERE environment_id = %s AND app = %s AND seen_at < now() - %s::interval",
        [environments.current(), app, unseen_for],
    )


def synchronise(app: str, wanted: Sequence[Wanted], *, actor: str) -> int:
    """Make the rows what this code says, at once; how many were taken back."""
    with transaction.atomic():
        renew(app, wanted)
        gone = take_back(app, unseen_for=timedelta(0))  # what was renewed was seen at this transaction's `now()`
        after = {"subscriptions": len(wanted), "taken back": gone}
        audit.record(environments.current(), actor, "subscription.sync", app, after=after)
    return gone


def all_of(environment: str) -> list[Subscription]:
    """What the tasks of an environment are subscribed to."""
    return list(Subscription.objects.filter(environment__slug=environment).order_by("name", "task"))


_NOTE = (
    "INSERT INTO triggerapp_start (environment_id, event_id, task) SELECT %s, %s, unnest(%s::varchar[]) "
    "ON CONFLICT DO NOTHING"
)


def names_of(event: str) -> list[str]:
    """The names under which tasks are subscribed to an event of this name."""
    if not event.startswith(_WEBHOOKS):
        return [event]
    endpoint = event.split("/", 2)[1]
    return [event, f"{_WEBHOOKS}{endpoint}/{ANY_TYPE}"]


def note(environment: int, event: UUID, payload: Json, subscribed: Sequence[sql.Row]) -> None:
    """Note which of these tasks the event is to start, in its own transaction."""
    tasks = {row["task"] for row in subscribed if filters.matches(json.loads(row["filter"]), payload)}
    if tasks:
        sql.run(_NOTE, [environment, event, sorted(tasks)])
        sql.after_commit(sql.notify)


# Only of tasks of this app: what waits for another app's keeps no ticker of ours busy.
_ANY_DUE = sql.Hot(
    "SELECT 1 FROM triggerapp_start WHERE environment_id = %s AND run IS NULL AND error = '' AND task = ANY(%s) LIMIT 1"
)
_DUE = (
    "SELECT s.id, s.task, e.payload FROM triggerapp_start s JOIN triggerapp_event e ON e.id = s.event_id "
    "WHERE s.environment_id = %s AND s.run IS NULL AND s.error = '' AND s.task = ANY(%s) "
    "ORDER BY s.id LIMIT %s FOR UPDATE OF s SKIP LOCKED"
)
_STARTED = "UPDATE triggerapp_start SET run = %s WHERE id = %s"
_NOT_STARTED = "UPDATE triggerapp_start SET error = %s WHERE id = %s"


def start_due(limit: int = 100) -> int:
    """Start the tasks of this app that events are to start; how many."""
    environment, tasks = environments.current(), catalog.durable_tasks()
    if sql.row(_ANY_DUE, [environment, tasks]) is None:
        return 0
    point("start.before_commit")
    with transaction.atomic():
        due = sql.rows(_DUE, [environment, tasks, limit])
        for row in due:
            _start(row)
    point("start.after_commit")
    return len(due)


def _start(row: sql.Row) -> None:
    """Each in a savepoint of its own: one that cannot be started holds up no other."""
    try:
        with transaction.atomic():
            request = calls.request_of(calls.of_event(row["task"], json.loads(row["payload"])))
            sql.run(_STARTED, [triggers.trigger(request).run_id, row["id"]])
    except sql.UNANSWERED:
        raise
    except TriggerError as error:
        sql.run(_NOT_STARTED, [limits.storable(str(error)), row["id"]])
    except Exception as error:  # of the project's own routers and signals
        log.exception("an event could not start %s", row["task"])
        sql.run(_NOT_STARTED, [limits.storable(f"{type(error).__name__}: {error}"), row["id"]])
