"""The other pools: the core of the list on solo and on gevent, and a worker that is embedded in a program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from celery import chain, chord, group
from celery.exceptions import TimeLimitExceeded
from django.conf import settings

from tests.acceptance import watch
from tests.acceptance.cluster import ROOT, Cluster, Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.nested import parent_of, plain_waits
from tests.acceptance.tasks import (
    add,
    auto_retried,
    becomes,
    boom,
    echo,
    for_event,
    hooked,
    kinds,
    reserves,
    retries_by_hand,
    stays,
    steps_on,
    total,
    who,
    works,
)
from tests.acceptance.trouble import gated
from triggerapp.models import Run
from workers import events

Start = Callable[..., AbstractContextManager[Worker]]


@pytest.mark.parametrize("pool", ["solo", "gevent"])
def test_the_list_in_short(worker: Start, pool: str):
    with worker(pool) as mine:
        tags = [fresh() for _ in range(4)]
        waits = for_event.delay(tags[0])
        expected = [
            (chain(add.s(1, 1), add.s(2)).delay(), 4),
            (group(add.s(n, n) for n in range(3)).delay(), [0, 2, 4]),
            (chord([add.s(1, 1), add.s(2, 2)], total.s()).delay(), 6),
            (retries_by_hand.delay(tags[1]), [2]),
            (auto_retried.delay(tags[2]), 2),
            (becomes.delay(add.s(3, 3)), 6),
            (hooked.delay(tags[3]), "done"),
            (kinds.apply_async(({1},), serializer="pickle"), ["set", "1"]),
            (parent_of.delay(fresh(), 0.1), None),
        ]
        failed = boom.delay()
        for result, value in expected:
            found = result.get(timeout=120)
            assert value is None or found == value
        with pytest.raises(ValueError, match="boom"):
            failed.get(timeout=120)
        assert notes(tags[3]) == ["before_start", "on_success", "after_return SUCCESS"]
        long = steps_on.delay(tag := fresh(), 100)
        wait_until(lambda: len(notes(tag)) >= 3)
        mine.stop()
        open_gate(tag)
        events.send("go", {"tag": tags[0], "value": "meanwhile"})
        mine.restart()
        assert waits.get(timeout=120) == "meanwhile"
        assert long.get(timeout=120) == 100
        assert notes(tag) == list(range(100))


def test_many_waits_at_once_on_gevent(worker: Start):
    with worker("gevent", options=("-c", "20")):
        results = [echo.delay(n, pause=0.2) for n in range(60)]
        assert [result.get(timeout=120) for result in results] == list(range(60))


def test_the_rest_of_the_list_on_gevent(worker: Start):
    """Revoke, monitors, limits of time, maps, stamps of the request, and a plain task beside."""
    with worker("gevent"):
        revoked, limited = stays.delay(fresh()), works.apply_async((tag := fresh(), 0.0), {"again": 60}, time_limit=5)
        undone = reserves.apply_async((kept := fresh(), 60), time_limit=5)
        wait_until(lambda: revoked.state == "WAITING" and watch.state_of(revoked.id) == "WAITING")
        revoked.revoke()
        assert revoked.state == "REVOKED"
        with pytest.raises(TimeLimitExceeded):
            limited.get(timeout=120)
        wait_until(lambda: Run.objects.get(task_id=limited.id).status == "timed_out")
        assert notes(tag) == ["begin", "end", "begin"]
        wait_until(lambda: Run.objects.get(task_id=undone.id).status == "timed_out")
        assert notes(kept) == ["reserve", "undo reserve"]
        assert echo.chunks([(1,), (2,), (3,)], 2).delay().get(timeout=120) == [[1, 2], [3]]
        who.apply_async((seen := fresh(),), priority=4, expires=60).get(timeout=120)
        before, _, after = notes(seen)
        assert before == after
        running = gated.delay(gate := fresh())
        wait_until(lambda: notes(gate))
        assert "outside" in plain_waits.delay().get(timeout=120)
        open_gate(gate)
        assert running.get(timeout=120) == gate


def test_processes_that_are_replaced_after_each_task(worker: Start):
    """Trap 19: nothing in the worker's main process talks to the database, so that late forks are safe."""
    with worker("prefork", options=("--max-tasks-per-child", "1")) as mine:
        results = [echo.delay(n, pause=0.05) for n in range(10)]
        assert [result.get(timeout=120) for result in results] == list(range(10))
        main = mine.family()[0]
        assert _database_port() not in {link.raddr.port for link in main.net_connections("tcp") if link.raddr}


def _database_port() -> int:
    from django.db import connection

    return int(connection.get_connection_params().get("port") or 5432)


def test_an_embedded_worker(cluster: Cluster):
    """Trap 24: it sends no `worker_ready` and no `celeryd_init`, yet has its ticker."""
    script = ROOT / "tests" / "acceptance" / "embedded.py"
    given = {"PATH": "/usr/bin:/bin", "ACCEPTANCE_QUEUE": "acceptance-embedded"}
    environment = {**cluster.environment(), **given, "DJANGO_SECRET_KEY": settings.SECRET_KEY}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("[6, True]"), done.stderr
