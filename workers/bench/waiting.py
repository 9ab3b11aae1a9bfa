"""Many waiting runs, made by SQL alone: no worker has to start them first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from triggerapp.engine import environments, events, filters, queues, sql
from triggerapp.engine.dispatch import Message
from workers.bench import stage, tasks

_RUNS = """
INSERT INTO triggerapp_run (id, task_id, environment_id, queue_id, task, status, lease, waiting_on, message, payload,
                            started_at, claimed_at)
SELECT id, id::text, %s, %s, %s, 'waiting', 1, waiting_on, %s, %s, now(), now()
FROM (SELECT gen_random_uuid() AS id, gen_random_uuid() AS waiting_on FROM generate_series(1, %s)) AS ids
"""
_WAITS = """
INSERT INTO triggerapp_wait (id, run_id, environment_id, key, kind, name, filter, signatures, expires_at)
SELECT r.waiting_on, r.id, r.environment_id, %s, %s, %s, jsonb_build_object('user', r.number),
       (%s::bigint[])[r.number : r.number], now() + interval '1 day'
FROM (SELECT *, row_number() OVER (ORDER BY id) AS number FROM triggerapp_run) AS r
"""


@contextmanager
def on_timers(count: int) -> Iterator[None]:
    """`count` runs that sleep until tomorrow."""
    with _waiting(count, kind="timer", name="", signatures=None):
        yield


@contextmanager
def on_events(count: int, name: str) -> Iterator[None]:
    """`count` runs that wait for an event of one name, each for its own user: 1 to `count`."""
    environment = environments.current()
    signatures = [events.subscribe(environment, name, {"user": 1})[0]]
    signatures += [_signature(name, user) for user in range(2, count + 1)]
    with _waiting(count, kind="event", name=name, signatures=signatures):
        yield


def _signature(name: str, user: int) -> int:
    wanted = {"user": user}
    return filters.signatures(name, filters.shape(wanted), wanted)[0]


@contextmanager
def _waiting(count: int, *, kind: str, name: str, signatures: list[int] | None) -> Iterator[None]:
    message = _message()
    environment = environments.current()
    queue = queues.identify(environment, message.routing_key)
    try:
        sql.run(_RUNS, [environment, queue, tasks.durable_noop.name, message.envelope(), message.body, count])
        sql.run(_WAITS, [f"{kind}#1", kind, name, signatures])
        _vacuum()
        yield
    finally:
        stage.clear()


def _message() -> Message:
    request, _ = tasks.durable_noop.request_for((), {})
    return request.message


def _vacuum() -> None:
    """What autovacuum would do within the minute."""
    with connection.cursor() as cursor:
        for table in ("run", "wait"):
            cursor.execute(f"VACUUM ANALYZE triggerapp_{table}")
