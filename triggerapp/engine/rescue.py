"""Finding what was missed: dead workers, lost messages, undelivered ends, runs that nobody began in time.

Each function is one tick: safe to run in every worker at once (SKIP LOCKED), and again. It serves the process's
own environment only: another's messages belong on another's broker.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cache
from uuid import UUID

from triggerapp import conf
from triggerapp.engine import dispatch, environments, runs, sql, undoing, wakes
from triggerapp.engine.dispatch import Message
from triggerapp.failpoints import point
from triggerapp.models import Status
from triggerapp.models.moves import move_sql

log = logging.getLogger(__name__)

_DEAD = (
    "SELECT id FROM triggerapp_run r WHERE status = 'running' AND environment_id = %s AND worker IN "
    "(SELECT id FROM triggerapp_worker WHERE expires_at < now() AND id <> %s) "
    "ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"
)
_LOST = "SELECT id FROM triggerapp_run WHERE id = ANY(%s) AND worker = %s AND status = 'running' FOR UPDATE SKIP LOCKED"
_PROBE_AFTER = 12
"""So many times `RESEND_AFTER` a run lies in a queue that seems long enough before it is sent to see."""
_CRASH = {
    "type": "triggerapp.errors:WorkerLost",
    "message": "the worker died while it ran this run, as often as TRIGGERAPP['MAX_CRASHES'] allows",
    "traceback": "",
}


def _literal(value: Mapping[str, str]) -> str:
    return f"'{json.dumps(value).replace(chr(39), chr(39) * 2)}'"


_CRASH_ERROR = _literal(_CRASH)
_CRASH_NOTED = _literal({**_CRASH, "status": Status.CRASHED})


_STRAY = (
    "SELECT id FROM triggerapp_run WHERE worker = %s AND status = 'running' AND NOT task_id = ANY(%s) "
    "AND claimed_at < now() - %s FOR UPDATE SKIP LOCKED"
)


_NOBODY = UUID(int=0)


def rescue(limit: int = 500, *, sparing: UUID = _NOBODY) -> int:
    """Take runs back from workers whose heartbeat stopped, but not from `sparing`, which asks; how many."""
    return _take_back(_DEAD, [environments.current(), sparing, limit])


_RELEASE_STRAY = move_sql(Status.QUEUED, "sent_at = now(), sends = 1", f"id IN ({_STRAY})", returning=dispatch.COLUMNS)


def rescue_lost(run_ids: list[UUID], worker: UUID) -> int:
    """Take runs back whose pool process died under a worker that lives."""
    return _take_back(_LOST, [run_ids, worker])


def rescue_stray(worker: UUID, *, at_work: list[str]) -> int:
    """Take runs back that this worker holds and does not know of; how many.

    Mostly a claim whose answer was lost: nothing died, and no crash is counted. Where it was word of a dead process
    that was lost, the run's next crash counts.
    """
    point("release.before_commit")
    released = sql.rows(_RELEASE_STRAY, [worker, at_work, conf.get().LEASE])
    point("release.after_commit")
    dispatch.after_commit(released)
    return len(released)


def _take_back(which: str, params: list[object]) -> int:
    most = conf.get().MAX_CRASHES
    point("rescue.before_commit")
    crashed = sql.rows(_crash(which, again=False), [*params, most])
    saved = sql.rows(_crash(which, again=True), [*params, most, most])
    point("rescue.after_commit")
    dispatch.after_commit([*saved, *crashed])
    wakes.wake_after_commit([row["wake"] for row in crashed if row["wake"] is not None])
    return len(saved) + len(crashed)


@cache
def _crash(which: str, *, again: bool) -> sql.Hot:
    """The statement that ends a crashed attempt: the run goes on with the next one, or has crashed for good.

    One that has rollbacks is entered once more before that, for nothing but them.
    """
    if again:
        status, number, limit = Status.QUEUED, "moved.attempt - 1", f"(crashes + 1 < %s OR {undoing.IS_DUE})"
        failed = f"CASE WHEN error IS NULL AND crashes + 1 >= %s THEN {_CRASH_NOTED} ELSE error END"
        assign = f"attempt = attempt + 1, sent_at = now(), sends = 1, error = {failed}"
    else:
        status, number, limit = Status.CRASHED, "moved.attempt", f"crashes + 1 >= %s AND NOT {undoing.IS_DUE}"
        assign = f"finished_at = now(), error = {_CRASH_ERROR}"
    where = f"id IN (SELECT id FROM dead) AND {limit}"
    told = f", told AS ({wakes.TELL_PARENT.format(ended='moved')})"
    unwaited = f", unwaited AS ({wakes.CLOSE_WAITS.format(ended='moved')})"
    noted = f", noted AS ({wakes.NOTE_END.format(ended='moved')})"
    wake = "NULL::uuid" if again else "(SELECT id FROM told WHERE told.id = moved.parent_wait AND status <> 'pending')"
    return sql.Hot(f"""
    WITH dead AS ({which}),
    moved AS ({move_sql(status, f"crashes = crashes + 1, {assign}", where, returning="*")}),
    closed AS (
      UPDATE triggerapp_attempt a SET finished_at = now(), outcome = 'crashed' FROM moved
      WHERE a.run_id = moved.id AND a.number = {number}
    ){"" if again else told + unwaited + noted}
    SELECT {dispatch.COLUMNS}, {wake} AS wake FROM moved
    """)


_TWICE_AS_LONG = "power(2, LEAST(sends, 7) - 1)"
"""SQL: how many times the first pause the one after the last sending is; 64 at most."""
_WAITING = f"""
SELECT id, message, sends, sent_at, now() - sent_at AS waited FROM triggerapp_run JOIN (
  SELECT id, place FROM (
    SELECT id, sent_at, row_number() OVER (PARTITION BY queue_id ORDER BY sent_at) AS place FROM triggerapp_run
    WHERE environment_id = %s AND status = 'queued' AND sent_at < now() - %s * {_TWICE_AS_LONG}
  ) overdue WHERE place <= %s ORDER BY place, sent_at LIMIT %s
) first USING (id) ORDER BY place, sent_at
"""
"""The oldest of each queue in turn: a long backlog, of which nothing is missing, must not hide a loss elsewhere.

The messages are read last, and only of these: they are long.
"""


def resend(limit: int = 500) -> int:
    """Send the messages of runs that nobody claimed: each time after twice as long; how many."""
    after = conf.get().RESEND_AFTER
    waiting = sql.rows(_WAITING, [environments.current(), after, limit, limit])
    if not waiting:
        return 0
    missing = _missing(waiting)
    point("resend.before_commit")
    found = sql.rows(
        "UPDATE triggerapp_run SET sent_at = now(), sends = sends + 1 WHERE id IN (SELECT id FROM triggerapp_run "
        "WHERE id = ANY(%s) AND status = 'queued' AND sent_at < now() - %s FOR UPDATE SKIP LOCKED) "
        f"RETURNING {dispatch.COLUMNS}",
        [missing, after],
    )
    point("resend.after_commit")
    dispatch.publish(found)
    return len(found)


_QUEUED = """
SELECT q.name, count(*) AS n, bool_or(r.sends > 1) AS probed FROM triggerapp_run r
JOIN triggerapp_queue q ON q.id = r.queue_id WHERE r.environment_id = %s AND r.status = 'queued' GROUP BY q.name
"""
_TAKEN = """
SELECT q.name, r.message::jsonb #>> '{properties,priority}' AS priority, max(r.sent_at) - %s AS sent_at
FROM triggerapp_run r JOIN triggerapp_queue q ON q.id = r.queue_id
WHERE r.environment_id = %s AND r.status = 'running' AND r.sends > 0 GROUP BY 1, 2
"""


def _missing(waiting: list[sql.Row]) -> list[UUID]:
    """Whose messages are lost: a long backlog is not a loss.

    A broker queue says how many messages lie in it, but not whose, and plain tasks may share it. So a run is missing

    * if the queue is too short to hold all its runs: as many as it lacks, the oldest first;
    * if a run that was sent clearly later is at work: queues keep their order, among messages of one priority, but a
      run is stamped before it is sent, and many that wake at once go out one by one.

    Plain messages can hide a loss from the first rule, and from the second where nothing is sent any more. Then the
    oldest run is sent as a probe, one for each queue: when it comes through, it has overtaken what is lost. The harm
    is bounded by that: late by the length of the backlog; and a doubled message finds its run claimed. Messages that a
    worker has taken and not begun look missing too; they are few.
    """
    environment, clearly = environments.current(), conf.get().RESEND_AFTER
    queued = {row["name"]: row for row in sql.rows(_QUEUED, [environment])}
    taken = {(row["name"], row["priority"]): row["sent_at"] for row in sql.rows(_TAKEN, [clearly, environment])}
    by_route: dict[str, list[sql.Row]] = {}
    for row in waiting:
        message = json.loads(row["message"])
        route, priority = message["routing_key"], message["properties"].get("priority")
        last = taken.get((route, None if priority is None else str(priority)))
        by_route.setdefault(route, []).append({**row, "overtaken": last is not None and row["sent_at"] < last})
    return [run for route, rows in by_route.items() for run in _missing_of(route, rows, queued.get(route))]


def _missing_of(route: str, waiting: list[sql.Row], queued: sql.Row | None) -> list[UUID]:
    lacks = (queued["n"] if queued else 1) - (dispatch.depth(route) or 0)
    missing = [row["id"] for n, row in enumerate(waiting) if n < lacks or row["overtaken"]]
    return missing or _probe(waiting, is_out=bool(queued and queued["probed"]))


def _probe(waiting: list[sql.Row], *, is_out: bool) -> list[UUID]:
    """The one run to send although its message may well lie there; while one is out, that one, when its time comes."""
    if is_out:
        return [row["id"] for row in waiting if row["sends"] > 1][:1]
    return [row["id"] for row in waiting[:1] if row["waited"] > _PROBE_AFTER * conf.get().RESEND_AFTER]


_UNDELIVERED = f"""
UPDATE triggerapp_run SET sent_at = now(), sends = CASE WHEN sent_at > finished_at THEN sends + 1 ELSE 1 END
WHERE id IN (
  SELECT id FROM triggerapp_run r WHERE environment_id = %s AND NOT delivered AND finished_at < now() - %s
    AND (sent_at IS NULL OR sent_at <= finished_at OR sent_at < now() - %s * {_TWICE_AS_LONG})
    AND status NOT IN ('canceled', 'expired') AND NOT is_eager
  ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING {dispatch.COLUMNS}
"""
"""Sendings are counted from the end on: where the queue is long, an end's messages would pile up in it."""


def redeliver(limit: int = 200) -> int:
    """Have ends told to Celery that no worker told: the worker died in between, or no worker had the run."""
    environment = environments.current()
    for row in sql.rows(
        "SELECT id, task_id, status, message, payload FROM triggerapp_run WHERE environment_id = %s AND NOT delivered "
        "AND finished_at IS NOT NULL AND status IN ('canceled', 'expired') ORDER BY finished_at LIMIT %s",
        [environment, limit],
    ):
        _announce_or_give_up(row)
    found = sql.rows(_UNDELIVERED, [environment, conf.get().LEASE, conf.get().LEASE * 3, limit])
    if found:
        point("redeliver.after_commit")
    dispatch.publish(found)
    return len(found)


def _announce_or_give_up(row: sql.Row) -> None:
    """A message that nobody can read any more must not keep the ends behind it from being told."""
    try:
        announce_canceled(row)
    except dispatch.UNREACHABLE:
        raise
    except Exception:
        log.exception("Celery cannot be told that run %s is %s", row["id"], row["status"])
        runs.mark_delivered([row["id"]])


def announce_canceled(row: sql.Row) -> None:
    """Tell Celery's result backend of a run that was canceled or expired, and note that it was told."""
    why = "expired" if row["status"] == Status.EXPIRED else "canceled"
    dispatch.announce_canceled(row["task_id"], Message.load(row["message"], row["payload"]), why=why)
    runs.mark_delivered([row["id"]])


_OVERDUE = (
    "id IN (SELECT id FROM triggerapp_run WHERE environment_id = %s AND status IN ('pending', 'queued') "
    "AND expires_at <= now() AND started_at IS NULL LIMIT %s FOR UPDATE SKIP LOCKED)"
)
_EXPIRE = sql.Hot(
    f"WITH moved AS ({move_sql(Status.EXPIRED, 'finished_at = now()', _OVERDUE, returning='*')}), "
    f"told AS ({wakes.TELL_PARENT.format(ended='moved')}), noted AS ({wakes.NOTE_END.format(ended='moved')}) "
    "SELECT moved.id, (SELECT id FROM told WHERE told.id = moved.parent_wait AND status <> 'pending') AS wake "
    "FROM moved"
)


def expire(limit: int = 500) -> int:
    """End runs whose time to live passed before they started; how many."""
    ended = sql.rows(_EXPIRE, [environments.current(), limit])
    wakes.wake_after_commit([row["wake"] for row in ended if row["wake"] is not None])
    return len(ended)
