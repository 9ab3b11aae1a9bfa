"""Finding what was missed: dead workers, lost messages, undelivered ends, runs past their time.

Each function is one tick: safe to run in every worker at once (SKIP LOCKED), and again. It serves the process's
own environment only: another's messages belong on another's broker.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from functools import cache
from uuid import UUID

from triggerapp import conf
from triggerapp.engine import dispatch, environments, runs, sql, wakes
from triggerapp.engine.dispatch import Message
from triggerapp.errors import StaleRun
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
_CRASH_ERROR = json.dumps(
    {
        "type": "triggerapp.errors:WorkerLost",
        "message": "the worker died while it ran this run, as often as TRIGGERAPP['MAX_CRASHES'] allows",
        "traceback": "",
    }
)


_STRAY = (
    "SELECT id FROM triggerapp_run WHERE worker = %s AND status = 'running' AND NOT task_id = ANY(%s) "
    "AND claimed_at < now() - %s FOR UPDATE SKIP LOCKED"
)


_NOBODY = UUID(int=0)


def rescue(limit: int = 500, *, sparing: UUID = _NOBODY) -> int:
    """Take runs back from workers whose heartbeat stopped, but not from `sparing`, which asks; how many."""
    return _take_back(_DEAD, [environments.current(), sparing, limit])


def rescue_lost(run_ids: list[UUID], worker: UUID) -> int:
    """Take runs back whose pool process died under a worker that lives."""
    return _take_back(_LOST, [run_ids, worker])


def rescue_stray(worker: UUID, *, at_work: list[str]) -> int:
    """Take runs back that this worker holds and does not know of: word of their loss, or of the claim, was lost."""
    return _take_back(_STRAY, [worker, at_work, conf.get().LEASE])


def _take_back(which: str, params: list[object]) -> int:
    most = conf.get().MAX_CRASHES
    point("rescue.before_commit")
    crashed = sql.rows(_crash(which, again=False), [*params, most])
    saved = sql.rows(_crash(which, again=True), [*params, most])
    point("rescue.after_commit")
    dispatch.after_commit([*saved, *crashed])
    wakes.wake_after_commit([row["wake"] for row in crashed if row["wake"] is not None])
    return len(saved) + len(crashed)


@cache
def _crash(which: str, *, again: bool) -> sql.Hot:
    """The statement that ends a crashed attempt: the run goes on with the next one, or has crashed for good."""
    if again:
        status, assign = Status.QUEUED, "attempt = attempt + 1, sent_at = now(), sends = 1"
        number = "moved.attempt - 1"
    else:
        status, assign = Status.CRASHED, f"finished_at = now(), error = '{_CRASH_ERROR.replace(chr(39), chr(39) * 2)}'"
        number = "moved.attempt"
    limit = "crashes + 1 < %s" if again else "crashes + 1 >= %s"
    where = f"id IN (SELECT id FROM dead) AND {limit}"
    told = f", told AS ({wakes.TELL_PARENT.format(ended='moved')})"
    unwaited = f", unwaited AS ({wakes.CLOSE_WAITS.format(ended='moved')})"
    wake = "NULL::uuid" if again else "(SELECT id FROM told WHERE told.id = moved.parent_wait AND status <> 'pending')"
    return sql.Hot(f"""
    WITH dead AS ({which}),
    moved AS ({move_sql(status, f"crashes = crashes + 1, {assign}", where, returning="*")}),
    closed AS (
      UPDATE triggerapp_attempt a SET finished_at = now(), outcome = 'crashed' FROM moved
      WHERE a.run_id = moved.id AND a.number = {number}
    ){"" if again else told + unwaited}
    SELECT {dispatch.COLUMNS}, {wake} AS wake FROM moved
    """)


def time_out(run_id: UUID, worker: UUID, *, seconds: float) -> None:
    """A hard time limit killed the run's process; Celery was told by the worker."""
    row = sql.row("SELECT lease FROM triggerapp_run WHERE id = %s AND worker = %s", [run_id, worker])
    if row is not None:
        error = {
            "type": "celery.exceptions:TimeLimitExceeded",
            "message": f"ran longer than {seconds} s",
            "traceback": "",
        }
        try:
            runs.fail(run_id, lease=row["lease"], error=error, status=Status.TIMED_OUT, delivered=True)
        except StaleRun:
            return


def resend(limit: int = 500) -> int:
    """Send the messages of runs that nobody claimed: each time after twice as long; how many."""
    after = conf.get().RESEND_AFTER
    waiting = sql.rows(
        "SELECT id, message FROM triggerapp_run WHERE environment_id = %s AND status = 'queued' AND sent_at < now() - "
        "%s * power(2, LEAST(sends, 7) - 1) ORDER BY sent_at LIMIT %s",
        [environments.current(), after, limit],
    )
    if not waiting:
        return 0
    missing = _missing({row["id"]: json.loads(row["message"])["routing_key"] for row in waiting})
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


def _missing(routes: dict[UUID, str]) -> list[UUID]:
    """As many of a broker queue's runs, the oldest first, as it is too short by: a long backlog is not a loss.

    Messages that a worker has taken and not begun look missing too. They are the oldest, and few; what is
    lost further back is found when its turn comes.
    """
    counts = sql.rows(
        "SELECT q.name, count(*) AS n FROM triggerapp_run r JOIN triggerapp_queue q ON q.id = r.queue_id "
        "WHERE r.environment_id = %s AND r.status = 'queued' GROUP BY q.name",
        [environments.current()],
    )
    queued = {row["name"]: row["n"] for row in counts}
    short = {route: queued.get(route, 1) - (dispatch.depth(route) or 0) for route in set(routes.values())}
    return [run for route, lacks in short.items() for run in _of(route, routes)[: max(0, lacks)]]


def _of(route: str, routes: dict[UUID, str]) -> list[UUID]:
    return [run for run, its_route in routes.items() if its_route == route]


def redeliver(limit: int = 200) -> int:
    """Have ends told to Celery that no worker told: the worker died in between, or no worker had the run."""
    environment = environments.current()
    for row in sql.rows(
        "SELECT id, task_id, message, payload FROM triggerapp_run WHERE environment_id = %s AND NOT delivered "
        "AND finished_at IS NOT NULL AND status IN ('canceled', 'expired') ORDER BY finished_at LIMIT %s",
        [environment, limit],
    ):
        _announce_or_give_up(row)
    found = sql.rows(
        "UPDATE triggerapp_run SET sent_at = now(), sends = sends + 1 WHERE id IN (SELECT id FROM triggerapp_run r "
        "WHERE environment_id = %s AND NOT delivered AND finished_at < now() - %s "
        "AND (sent_at IS NULL OR sent_at < finished_at OR sent_at < now() - %s) "
        "AND status NOT IN ('canceled', 'expired') AND NOT is_eager "
        "ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED) "
        f"RETURNING {dispatch.COLUMNS}",
        [environment, conf.get().LEASE, conf.get().LEASE * 3, limit],
    )
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
        log.exception("Celery cannot be told that run %s was canceled", row["id"])
        runs.mark_delivered([row["id"]])


def announce_canceled(row: sql.Row) -> None:
    """Tell Celery's result backend of a canceled run, and note that it was told."""
    dispatch.announce_canceled(row["task_id"], Message.load(row["message"], row["payload"]))
    runs.mark_delivered([row["id"]])


_OVERDUE = (
    "id IN (SELECT id FROM triggerapp_run WHERE environment_id = %s AND status IN ('pending', 'queued') "
    "AND expires_at <= now() AND started_at IS NULL LIMIT %s FOR UPDATE SKIP LOCKED)"
)
_EXPIRE = sql.Hot(
    f"WITH moved AS ({move_sql(Status.EXPIRED, 'finished_at = now()', _OVERDUE, returning='*')}), "
    f"told AS ({wakes.TELL_PARENT.format(ended='moved')}) "
    "SELECT moved.id, (SELECT id FROM told WHERE told.id = moved.parent_wait AND status <> 'pending') AS wake "
    "FROM moved"
)


def expire(limit: int = 500) -> int:
    """End runs whose time to live passed before they started; how many."""
    ended = sql.rows(_EXPIRE, [environments.current(), limit])
    wakes.wake_after_commit([row["wake"] for row in ended if row["wake"] is not None])
    return len(ended)


def prune(limit: int = 1000) -> int:
    """Delete what is older than its retention: ended runs with their journals, events, workers; how many runs."""
    settings, environment = conf.get(), environments.current()
    old = sql.rows(
        "SELECT id FROM triggerapp_run WHERE environment_id = %s AND finished_at < now() - %s AND delivered "
        "LIMIT %s FOR UPDATE SKIP LOCKED",
        [environment, settings.RUN_RETENTION, limit],
    )
    ids = [row["id"] for row in old]
    for which in (
        "step WHERE NOT superseded AND run_id",
        "step WHERE superseded AND run_id",
        "wait WHERE run_id",
        "attempt WHERE run_id",
        "run WHERE id",
    ):
        sql.run(f"DELETE FROM triggerapp_{which} = ANY(%s)", [ids])
    sql.run(
        "DELETE FROM triggerapp_event WHERE environment_id = %s AND created_at < now() - %s",
        [environment, settings.EVENT_RETENTION],
    )
    sql.run("DELETE FROM triggerapp_worker WHERE expires_at < now() - %s", [timedelta(days=1)])
    sql.run(
        "DELETE FROM triggerapp_wait WHERE environment_id = %s AND run_id IS NULL AND resolved_at < now() - %s",
        [environment, settings.RUN_RETENTION],
    )
    return len(ids)
