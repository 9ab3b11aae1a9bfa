"""The pool process as supervisor of a run process: it has the message, the other one has the function.

It follows the run to its outcome, which it hands to Celery's tracer as if the function had run here. Where the process
comes from is `birth`, how it leaves at a wait `departure`, and what state it is in `life`.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from celery.exceptions import Ignore
from celery.result import result_from_tuple

from checkpoint import Unborn, Zygote
from checkpoint.line import Hung
from checkpoint.line import Message as LineMessage
from triggerapp import imagestore
from triggerapp.engine import checkpoints, rescue
from triggerapp.engine.runs import Claimed
from workers import identity, logs, messages, records
from workers.board import Watch
from workers.messages import (
    MOVE_OUT,
    SOFT_LIMIT,
    Begun,
    Logged,
    Parked,
    Place,
    Raised,
    RemoteTraceback,
    Returned,
    Said,
)
from workers.patience import UNANSWERED, patiently
from workers.supervision import birth, departure, idle
from workers.supervision.birth import Born, Case
from workers.supervision.life import Life, State
from workers.supervision.orders import Orders

_LOOK = 0.2
"""Seconds between two looks at whether the worker is leaving."""


def run(task: Any, request: Any, args: Any, kwargs: Any, claimed: Claimed, watch: Watch) -> object:
    """The task's value, or raises what it raised. Raises `Unborn` if no process could be had: nothing has happened."""
    zygote = Zygote(_home() / "zygote")
    case = Case(task=task, request=request, claimed=claimed, place=_place(watch), zygote=zygote)
    life = Life()
    with _limits_passed_on(life):
        born = birth.begin(case, life, args, kwargs)
        return Supervisor(case, born, life, Orders(claimed, watch)).follow()


class Supervisor:
    """One run, from the birth of its process to where it ends or leaves."""

    def __init__(self, case: Case, born: Born, life: Life, orders: Orders) -> None:
        self.case = case
        self.born = born
        self.life = life
        self.orders = orders
        self.log = logs.of(case.claimed)

    def follow(self) -> object:
        """The task's value, or raises what is to be told to Celery; the process is gone then, or idle."""
        try:
            outcome = self._outcome()
        except Hung:
            self._lost()
        except BaseException:
            self.log.flush()
            self.life.end()
            raise
        return self.finish(outcome)

    def _outcome(self) -> Returned | Raised:
        while True:
            message = messages.unpack(self._next().payload)
            match message:
                case Begun():
                    self.life.move(State.AT_WORK)
                case Logged(record=record):
                    records.log_again(record)
                case Said(line=line):
                    self.log.hear(line)
                case Parked():
                    self._stands(message)
                case Returned() | Raised():
                    return message

    def _next(self) -> LineMessage:
        """What the process says next on its line; what it prints meanwhile is printed here."""
        process = self.life.process
        poll = select.poll()
        poll.register(process.line.fileno(), select.POLLIN)
        poll.register(process.output, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(_LOOK * 1000)]
            if process.output in ready and not records.print_again(process.output):
                poll.unregister(process.output)
            if process.line.fileno() in ready:
                return process.line.receive()
            if self.orders.to_move():
                self.life.tell(MOVE_OUT)

    def _stands(self, parked: Parked) -> None:
        self.life.move(State.STANDING)
        records.print_again(self.life.process.output)
        self.log.flush()
        departure.leave(self.case, self.born, self.life, parked)

    # -- the end -------------------------------------------------------------------------------

    def finish(self, outcome: Returned | Raised) -> object:
        """Hand the outcome on, and the process to another run."""
        records.print_again(self.life.process.output)
        self.log.flush()
        for child in outcome.children:
            self.case.request.children.append(result_from_tuple(child, app=self.case.task.app))
        self._let_go(outcome)
        if isinstance(outcome, Raised) and isinstance(outcome.error, Ignore):
            raise outcome.error  # it has left, or is another's; if it is over after all, a tick deletes its image
        self._discard_image()
        if isinstance(outcome, Returned):
            return outcome.value
        outcome.error.__cause__ = RemoteTraceback(outcome.traceback)
        raise outcome.error

    def _let_go(self, outcome: Returned | Raised) -> None:
        is_as_new = self.life.state is State.AT_WORK and outcome.is_as_new
        process = self.life.let_go()
        if is_as_new:
            idle.put(process, limit=self.case.task.app.conf.worker_max_memory_per_child)
        else:
            process.release()

    def _discard_image(self) -> None:
        """The run is over, whether or not this can be done now; a tick deletes what is left."""
        if self.born.taken is not None:
            with suppress(*UNANSWERED):
                imagestore.delete([checkpoints.discard(self.case.claimed.run_id)])

    def _lost(self) -> NoReturn:
        """The process died under the run: like a pool process that dies, but this one is left to say so."""
        self.log.flush()
        self.life.end()
        run_id = self.case.claimed.run_id
        with suppress(*UNANSWERED):  # the worker's roll call gives the run back
            patiently(lambda: rescue.rescue_lost([run_id], identity.worker()))
        raise Ignore(f"run {run_id} lost its process; it goes on elsewhere")


@contextmanager
def _limits_passed_on(life: Life) -> Iterator[None]:
    """Celery's soft time limit is raised in the function, not in its supervisor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda *_: life.tell(SOFT_LIMIT))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _home() -> Path:
    home = identity.home()
    if home is None:
        raise Unborn("this worker has no zygote")
    return home


def _place(watch: Watch) -> Place:
    """Where a run process of this worker belongs."""
    return Place(board=f"/proc/{os.getppid()}/fd/{identity.board().fd}", seen=watch.seen, level=logging.root.level)
