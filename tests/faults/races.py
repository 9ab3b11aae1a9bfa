"""Races: several processes, each with a database connection of its own, let go at the same moment, thousands of times.

The engine's own functions race; only the broker is left out: what would be sent is counted instead.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from django.db import connection

from tests.faults import database, processes
from tests.faults.world import World

_PATIENCE = 200.0
_SPINS = 50
_PER_NAME = 20
"""Races on one event name."""
Racer = Callable[[int, UUID, UUID], bool]
"""Plays its part in race number n, about a run and a wait; whether it won, as far as it can tell."""


class Barrier:
    """Lets racers go together, race after race; in shared memory, so that nobody sleeps for long."""

    def __init__(self, racers: int) -> None:
        self._racers = racers
        self._memory = mmap.mmap(-1, 8 * racers)

    def meet(self, racer: int, race: int) -> None:
        """Return once all have come to this race."""
        struct.pack_into("q", self._memory, 8 * racer, race)
        for tries in count():
            if min(struct.unpack_from(f"{self._racers}q", self._memory)) >= race:
                return
            if tries > _SPINS:  # the others need the processor too, and the database does
                time.sleep(0.00005)


def opening_against_event(world: World, *, races: int, locked: bool) -> dict[str, Any]:
    """A run opens its wait while its event is emitted."""
    pairs = _prepare(world, races, waiting=False)
    names = ("open", "emit")
    reports = _race(world, pairs, names, locked=locked)
    waits = world.rows("SELECT status, count(*) AS n FROM triggerapp_wait GROUP BY status")
    return {
        "waits": {row["status"]: row["n"] for row in waits},
        "unmet": world.one("SELECT count(*) FROM triggerapp_wait WHERE status <> 'resolved' OR event IS NULL"),
        "opened": world.one("SELECT count(*) FROM triggerapp_wait"),
        "found": sum(reports["open"]["won"]),
        "met": sum(reports["emit"]["won"]),
        **_wakes(world, reports, suspended="SELECT id FROM triggerapp_run WHERE sends > 0 OR status = 'waiting'"),
        "violations": _unended(world.violations(kills=0)) if locked else [],
    }


def event_against_deadline_against_cancel(world: World, *, races: int) -> dict[str, Any]:
    """A waiting run's event comes at its deadline, while it is canceled."""
    pairs = _prepare(world, races, waiting=True)
    reports = _race(world, pairs, ("emit", "expire", "cancel"), locked=True)
    waits = world.rows("SELECT status, count(*) AS n FROM triggerapp_wait GROUP BY status")
    winners = Counter(sum(flags) for flags in zip(*(reports[name]["won"] for name in reports), strict=True))
    return {
        "waits": {row["status"]: row["n"] for row in waits},
        "winners": dict(winners),
        **_wakes(world, reports, suspended="SELECT id FROM triggerapp_run WHERE sends > 0"),
        "woken": world.one("SELECT count(*) FROM triggerapp_run WHERE sends > 0"),
        "runs": {
            row["status"]: row["n"]
            for row in world.rows("SELECT status, count(*) AS n FROM triggerapp_run GROUP BY status")
        },
        "violations": _unended(world.violations(kills=0)),
    }


def _wakes(world: World, reports: dict[str, Any], *, suspended: str) -> dict[str, int]:
    """How many runs were sent never, and more than once, after a tick looked for those that were missed."""
    late = _fork_and_call(world, _catch_up)
    sent = Counter(run for report in [*reports.values(), late] for run in report["sent"])
    runs = {str(row["id"]) for row in world.rows(suspended)}
    return {
        "asleep": len(runs - sent.keys()),
        "twice": sum(n > 1 for n in sent.values()),
        "late": len(late["sent"]),
    }


def _unended(violations: list[str]) -> list[str]:
    """These runs do not end; everything else counts."""
    return [each for each in violations if "never ended" not in each]


def _prepare(world: World, races: int, *, waiting: bool) -> list[tuple[UUID, UUID]]:
    """Runs that are running, or waiting for an event with a deadline far away."""
    world.call("trigger", "quick", [0])  # makes the environment and the queue
    pairs = [(uuid4(), uuid4()) for _ in range(races)]
    with database.connect(world.url) as direct:
        (first,) = direct.execute("SELECT id FROM triggerapp_run").fetchone() or (None,)
        copied = (
            "INSERT INTO triggerapp_run (id, task_id, environment_id, queue_id, task, status, message, payload, "
            "lease, claimed_at, started_at) SELECT r, r::text, environment_id, queue_id, task, 'running', message, "
            "payload, 1, now(), now() FROM triggerapp_run, unnest(%s::uuid[]) r WHERE id = %s"
        )
        direct.execute(copied, [[run for run, _ in pairs], first])
        direct.execute("DELETE FROM triggerapp_run WHERE id = %s", [first])
        direct.execute("TRUNCATE faults_note")
    if waiting:
        _fork_and_call(world, _open_all, pairs)
    with database.connect(world.url) as direct:
        direct.execute("ANALYZE")
    return pairs


def _open_all(pairs: list[tuple[UUID, UUID]]) -> None:
    """Have every run wait for its event: what `waits.suspend` writes, but all at once."""
    from triggerapp.engine import environments, events, filters, sql

    environment, rows = environments.current(), []
    for number, (run, wait) in enumerate(pairs, 1):
        name, wanted = _name(number), {"n": [number]}
        if number % _PER_NAME in (0, 1):
            events.subscribe(environment, name, wanted)
        signatures = filters.signatures(name, filters.shape(wanted), wanted)
        rows.append((wait, run, environment, name, json.dumps(wanted), signatures))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO triggerapp_wait (id, run_id, environment_id, key, kind, name, filter, signatures, expires_at) "
            "VALUES (%s, %s, %s, 'race', 'event', %s, %s::jsonb, %s::bigint[], now() + interval '1 hour')",
            rows,
        )
    sql.run(
        "UPDATE triggerapp_run r SET status = 'waiting', waiting_on = w.id FROM triggerapp_wait w WHERE w.run_id = r.id"
    )


def _race(world: World, pairs: list[tuple[UUID, UUID]], names: tuple[str, ...], *, locked: bool) -> dict[str, Any]:
    """Let the racers run all races; what each says of them."""
    barrier = Barrier(len(names))
    pids, files = [], []
    for index, name in enumerate(names):
        file = world.folder / f"{world.number}.{name}"

        def run(index: int = index, name: str = name, file: Any = file) -> None:
            file.write_text(_dump(_run_all(RACERS[name], index, pairs, barrier, locked=locked)))

        pids.append(processes.fork(run, log=world.log))
        files.append(file)
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, world.tail()
    return {name: _load(file.read_text()) for name, file in zip(names, files, strict=True)}


def _run_all(
    racer: Racer, index: int, pairs: list[tuple[UUID, UUID]], barrier: Barrier, *, locked: bool
) -> dict[str, Any]:
    os.environ["PGOPTIONS"] = "-c synchronous_commit=off"  # who wins is asked here, not what a power cut leaves
    sent = _count_sends()
    if not locked:
        _take_the_lock_out()
    won = []
    for number, (run, wait) in enumerate(pairs, 1):
        if racer is _expire:
            _make_due(wait)
        barrier.meet(index, number)
        won.append(bool(racer(number, run, wait)))
    return {"won": won, "sent": sent}


def _count_sends() -> list[str]:
    """Note what would be sent to the broker."""
    from triggerapp.engine import dispatch

    sent: list[str] = []

    def publish(batch: Any, **_: Any) -> int:
        ids = [str(row["id"]) for row in batch]
        sent.extend(ids)
        return len(ids)

    dispatch.publish = publish
    return sent


def _take_the_lock_out() -> None:
    """The mutant: events and waits no longer meet under one lock."""
    from triggerapp.engine import events

    events.lock = lambda environment, name: None


def _open(number: int, run: UUID, wait: UUID) -> bool:
    from datetime import timedelta

    from triggerapp.engine import waits
    from triggerapp.engine.waits import Opening, Resolution
    from triggerapp.models import WaitKind

    opening = Opening(
        key="race",
        kind=WaitKind.EVENT,
        name=_name(number),
        filter={"n": [number]},
        wait=wait,
        deadline=timedelta(hours=1),
    )
    return isinstance(waits.suspend(run, opening, lease=1), Resolution)


def _name(number: int) -> str:
    return f"race {number // _PER_NAME}"


def _emit(number: int, run: UUID, wait: UUID) -> bool:
    from triggerapp.engine import events, sql

    emitted = events.emit(_name(number), f'{{"n": {number}}}')
    return sql.row("SELECT 1 FROM triggerapp_wait WHERE id = %s AND event = %s", [wait, emitted.id]) is not None


def _make_due(wait: UUID) -> None:
    from triggerapp.engine import sql

    sql.run("UPDATE triggerapp_wait SET expires_at = now() WHERE id = %s", [wait])


def _expire(number: int, run: UUID, wait: UUID) -> bool:
    """What a tick does."""
    from triggerapp.engine import wakes

    _hesitate(0.003)
    due = wakes.expire_due()
    if due:
        wakes.wake(due)
    return wait in due


def _hesitate(most: float) -> None:
    """So that each is first now and then: the three have ways of different length to their commit."""
    time.sleep(random.random() * most)


def _cancel(number: int, run: UUID, wait: UUID) -> bool:
    from triggerapp.engine import rescue, sql, verbs

    _hesitate(0.002)
    rescue.announce_canceled = lambda row: None
    verbs.cancel(run)
    return sql.row("SELECT 1 FROM triggerapp_wait WHERE id = %s AND status = 'canceled'", [wait]) is not None


def _catch_up() -> dict[str, Any]:
    """What a ticker does once a second."""
    from triggerapp.engine import wakes

    sent = _count_sends()
    while wakes.wake():
        pass
    return {"sent": sent}


RACERS: dict[str, Racer] = {"open": _open, "emit": _emit, "expire": _expire, "cancel": _cancel}


def _fork_and_call(world: World, function: Callable[..., Any], *args: Any) -> Any:
    return processes.call(function, *args, log=world.log, patience=_PATIENCE)


def _dump(report: dict[str, Any]) -> str:
    return json.dumps(report)


def _load(text: str) -> dict[str, Any]:
    return dict(json.loads(text))
