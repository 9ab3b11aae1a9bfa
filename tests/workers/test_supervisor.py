"""The supervisor of a run process: what it passes on, what it is told, and what of its own may not fail a run.

The run process is played by a thread, at the other end of a real line.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Ignore
from django.db import OperationalError

from checkpoint import Sandbox, Zygote
from checkpoint.line import Line, Word
from checkpoint.line import Message as LineMessage
from tests.factories import fresh, make_run, make_worker
from tests.inprocess import app
from triggerapp.engine import checkpoints, runs, verbs
from triggerapp.engine.checkpoints import Taken
from triggerapp.engine.runs import Claimed
from triggerapp.models import Run, Status
from workers import identity, messages
from workers.board import Board, Watch
from workers.messages import Begun, Message, Parked, Place, Raised, Returned
from workers.supervision import idle
from workers.supervision.birth import Born, Case
from workers.supervision.life import Life, State
from workers.supervision.orders import Orders
from workers.supervision.supervisor import Supervisor
from workers.tracer import Suspended

pytestmark = pytest.mark.usefixtures("database")

LEASE = timedelta(seconds=10)


@dataclass
class Played:
    """A process that sleeps; what it says is said by the test."""

    sandbox: Sandbox
    line: Line

    def says(self, *said: Message) -> None:
        def say() -> None:
            for message in said:
                self.line.send(LineMessage(Word.NOTE, messages.pack(message)))

        Thread(target=say, daemon=True).start()


@pytest.fixture
def played() -> Iterator[Played]:
    ours, theirs = Line.pair()
    output, printed = os.pipe()
    child = subprocess.Popen(["sleep", "600"])
    yield Played(Sandbox(child.pid, ours, 0, output), theirs)
    child.kill()
    child.wait()
    theirs.close()
    os.close(printed)
    idle._idle.clear()


@pytest.fixture
def watch() -> Watch:
    return Watch(identity.board(), lease=LEASE)


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    identity.renew()
    yield
    identity.renew()


def claimed_run() -> tuple[Run, Claimed]:
    run = make_run(Status.QUEUED)
    claimed = runs.claim(run.pk, run.lease, make_worker())
    assert isinstance(claimed, Claimed)
    return fresh(run), claimed


def supervise(played: Played, claimed: Claimed, watch: Watch, born: Born | None = None) -> Supervisor:
    task: Any = SimpleNamespace(name="tests.task", app=app)
    request: Any = SimpleNamespace(children=[])
    place = Place(board="", seen=watch.seen, level=0)
    case = Case(task=task, request=request, claimed=claimed, place=place, zygote=Zygote(Path("/nowhere")))
    life = Life()
    life.begin(played.sandbox, State.BORN)
    return Supervisor(case, born or Born(), life, Orders(claimed, watch))


def taken() -> Taken:
    return Taken(id=uuid4(), wait=None, sequence=1, lease=1, host="here", pid=1, pipe=1, restores=1, fits=True)


def fails(times: int, then: Callable[..., Any]) -> Callable[..., Any]:
    """A query that the database does not answer so often, and then does."""
    calls: list[object] = []

    def query(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) <= times:
            raise OperationalError("the connection is gone")
        return then(*args, **kwargs)

    return query


# -- the outcome -----------------------------------------------------------------------------------


def test_the_value_comes_over_and_the_process_serves_another_run(played: Played, watch: Watch):
    supervisor = supervise(played, claimed_run()[1], watch)
    played.says(Begun(), Returned(value=42))
    assert supervisor.follow() == 42
    assert idle.take() is played.sandbox


@pytest.mark.parametrize(
    "outcome", [Returned(value=42, is_as_new=False), Raised(error=ValueError(), traceback="", is_as_new=False)]
)
def test_a_process_with_something_left_in_it_serves_no_other_run(played: Played, watch: Watch, outcome: Message):
    supervisor = supervise(played, claimed_run()[1], watch)
    played.says(Begun(), outcome)
    with suppress(ValueError):
        supervisor.follow()
    assert supervisor.life.state is State.OVER and idle.take() is None


def test_an_image_that_cannot_be_forgotten_fails_no_run_that_is_over(
    played: Played, watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoints, "discard", fails(1, checkpoints.discard))
    supervisor = supervise(played, claimed_run()[1], watch, Born(taken=taken()))
    played.says(Begun(), Returned(value=42))
    assert supervisor.follow() == 42


def test_an_error_that_is_the_runs_own_is_told_also_where_its_image_cannot_be_forgotten(
    played: Played, watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoints, "discard", fails(1, checkpoints.discard))
    supervisor = supervise(played, claimed_run()[1], watch, Born(taken=taken()))
    played.says(Begun(), Raised(error=ValueError("its own"), traceback="there"))
    with pytest.raises(ValueError, match="its own"):
        supervisor.follow()


@pytest.mark.parametrize("left", [Suspended("at a wait"), Ignore("stale")])
def test_the_image_of_a_run_that_is_not_over_here_stays(
    played: Played, watch: Watch, monkeypatch: pytest.MonkeyPatch, left: Ignore
):
    forgotten: list[object] = []
    monkeypatch.setattr(checkpoints, "discard", forgotten.append)
    supervisor = supervise(played, claimed_run()[1], watch, Born(taken=taken()))
    played.says(Begun(), Raised(error=left, traceback=""))
    with pytest.raises(Ignore):
        supervisor.follow()
    assert forgotten == []


def test_a_process_that_dies_loses_no_run(played: Played, watch: Watch):
    run, claimed = claimed_run()
    assert run.worker is not None
    identity.join(run.worker, os.dup(identity.board().fd or 0))
    supervisor = supervise(played, claimed, watch)
    played.line.close()
    with pytest.raises(Ignore, match="goes on elsewhere"):
        supervisor.follow()
    assert fresh(run).status == Status.QUEUED and fresh(run).crashes == 1


def test_a_process_that_does_what_it_cannot_do_where_it_is_is_given_up(played: Played, watch: Watch):
    supervisor = supervise(played, claimed_run()[1], watch)
    played.says(Parked(opening=None, description="before it has begun"))
    with pytest.raises(Ignore, match="lost its process"):
        supervisor.follow()
    assert supervisor.life.state is State.OVER


# -- orders ----------------------------------------------------------------------------------------


def test_a_run_that_is_asked_to_move_is_told_although_the_database_did_not_answer_at_first(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    run, claimed = claimed_run()
    orders = Orders(claimed, watch)
    assert not orders.to_move()
    checkpoints.ask_to_move(run.pk)
    identity.board().tell(run.pk)
    monkeypatch.setattr(checkpoints, "must_move", fails(2, checkpoints.must_move))
    assert [orders.to_move() for _ in range(4)] == [False, False, True, True]


def test_a_worker_that_shuts_down_moves_its_runs_whether_or_not_the_database_answers(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    run, claimed = claimed_run()
    orders = Orders(claimed, watch)
    monkeypatch.setattr(checkpoints, "must_move", fails(99, checkpoints.must_move))
    identity.board().tell(run.pk)
    assert not orders.to_move()
    identity.leave()
    assert orders.to_move()


def test_news_stay_news_until_somebody_has_heard_them():
    board, run = Board(), uuid4()
    watch = Watch(board, lease=LEASE)
    board.tell(run)
    assert watch.has_news(run) and watch.has_news(run)
    watch.heard()
    assert not watch.has_news(run)
    board.tell(run)
    assert watch.has_news(run)
    watch.move_to(board, board.slots())
    assert not watch.has_news(run)


def test_a_canceled_run_begins_nothing_although_the_database_did_not_answer_at_first(
    worker: Any, monkeypatch: pytest.MonkeyPatch
):
    from tests.inprocess import durable
    from workers import current_run, patience, step

    begun: list[str] = []
    monkeypatch.setattr(patience, "LONGEST", timedelta())

    @durable
    def stubborn() -> None:
        step(begun.append, "before")
        verbs.cancel(Run.objects.get(pk=current_run().id).id)
        identity.board().tell(Run.objects.get().pk)
        monkeypatch.setattr(runs, "holds", fails(1, runs.holds))
        try:
            step(begun.append, "database down")
        except OperationalError:
            begun.append("caught")
        step(begun.append, "after")

    stubborn.trigger()
    worker.work()
    assert begun == ["before", "caught"]
