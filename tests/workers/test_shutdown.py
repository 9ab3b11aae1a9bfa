"""A cold shutdown kills no run that is about to leave, and waits for none for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from workers import identity, request, shutdown
from workers.request import DurableRequest, has_answered

BUSY, DONE = 11, 12


class Clock:
    """Time that passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def pool() -> Iterator[Any]:
    """Two pool processes, of which one has answered."""
    (busy, _), (done, answer) = pipes = (os.pipe(), os.pipe())
    os.write(answer, b"done")
    processes = {busy: SimpleNamespace(pid=BUSY), done: SimpleNamespace(pid=DONE)}
    killed: list[int] = []
    yield SimpleNamespace(
        _pool=SimpleNamespace(_fileno_to_outq=processes),
        killed=killed,
        terminate_job=lambda pid, signal: killed.append(pid),
    )
    for end in (end for pipe in pipes for end in pipe):
        os.close(end)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """That of a new worker whose runs are dumped."""
    monkeypatch.setattr(identity, "_mine", identity._Identity())
    identity.settle(tmp_path)
    monkeypatch.setattr(shutdown, "time", clock := Clock())
    return clock


def at_work(monkeypatch: pytest.MonkeyPatch, *pids: int) -> list[DurableRequest]:
    requests = [object.__new__(DurableRequest) for _ in pids]
    for each, pid in zip(requests, pids, strict=True):
        each.worker_pid, each.time_start, each.id = pid, 1.0, str(pid)  # type: ignore[assignment]
    monkeypatch.setattr(state, "active_requests", set(requests))
    return requests


def shut_down(pool: Any, clock: Clock, *, softly: float = 0.0) -> float:
    """Seconds that a worker with this pool waits in a cold shutdown, which it does only when its runs were told."""

    def wait() -> None:
        assert identity.is_leaving()
        clock.sleep(softly)

    worker, began = SimpleNamespace(pool=pool, wait_for_soft_shutdown=wait), clock.now
    shutdown.prepare(worker)
    worker.wait_for_soft_shutdown()
    return clock.now - began


def test_a_pool_process_has_answered_when_there_is_something_to_read_from_it(pool: Any) -> None:
    assert [has_answered(pool, pid) for pid in (BUSY, DONE, 13)] == [False, True, False]
    assert not has_answered(SimpleNamespace(_pool=None), DONE)


def test_no_time_passes_once_all_runs_have_left(pool, clock, monkeypatch) -> None:
    at_work(monkeypatch, DONE)
    assert shut_down(pool, clock) == 0


@pytest.mark.parametrize(("softly", "waited"), [(0.0, 7.0), (3.0, 7.0), (25.0, 25.0)])
def test_a_run_that_does_not_leave_is_waited_for_since_it_was_told(pool, clock, monkeypatch, softly, waited) -> None:
    at_work(monkeypatch, DONE, BUSY)
    assert shut_down(pool, clock, softly=softly) == pytest.approx(waited, abs=0.1)


def test_where_nothing_is_dumped_nothing_is_waited_for(pool, clock, monkeypatch) -> None:
    at_work(monkeypatch, BUSY)
    identity.settle(None)
    assert shut_down(pool, clock) == 0


def test_a_run_that_has_left_is_not_killed_and_its_answer_is_still_read(pool, monkeypatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(request.link, "tell", lambda what, **fields: told.append((what, fields["task"])))
    monkeypatch.setattr(DurableRequest, "acknowledge", lambda self: None)
    monkeypatch.setattr(DurableRequest, "run_id", "a run")
    for each in at_work(monkeypatch, DONE, BUSY):
        each.cancel(pool)
    assert pool.killed == [BUSY]
    assert told == [("killed", str(BUSY))]
