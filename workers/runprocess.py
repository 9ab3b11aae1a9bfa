"""The run process: it runs one run at a time, away from the pool process that has its message.

Forked from the worker's zygote. All it does with the outside goes over connections of its own; over its line to the
supervisor go the job, log records, the stand at a wait, and the outcome. What the function holds in memory survives its
waits, because this process does.
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import FrameType
from typing import Any, cast

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, _state, signals
from celery.app.task import Context
from celery.utils.serialization import get_pickleable_exception

import checkpoint
from checkpoint import Orphaned
from checkpoint.line import Hung, Line, Word
from checkpoint.line import Message as LineMessage
from triggerapp import conf, failpoints
from workers import announcing, connections, hearing, identity, messages, resources, running, stack
from workers.board import Board, Watch
from workers.logs import SILENT, Teller
from workers.messages import MOVE_OUT, SOFT_LIMIT, Begun, Job, Moved, Parked, Place, Raised, Returned, Said, Woken
from workers.parking import ByCheckpoint
from workers.records import Forwarder

log = logging.getLogger(__name__)


class RunProcess:
    """This process, as one who runs runs."""

    def __init__(self, line: Line, app: Celery) -> None:
        self.line = line
        self.app = app
        self._lock = RLock()
        self._pid = os.getpid()
        self._board = ""
        self._watch = Watch(identity.board(), lease=conf.get().LEASE)
        self._context: Context | None = None
        self._suspension: ByCheckpoint | None = None
        self._is_standing = False
        self._is_late = False
        self._has_stood = False
        self._registered = resources.registered()

    # -- the line ------------------------------------------------------------------------------

    def tell(self, message: messages.Message) -> None:
        """Tell the supervisor. A fork of this process, made by the user's code, has nothing to tell."""
        raw = messages.pack(message)
        with self._lock:
            if os.getpid() == self._pid:
                self.line.send(LineMessage(Word.NOTE, raw))

    def park(self, parked: Parked) -> Woken:
        """Stand still until the supervisor says to go on; nobody else says anything meanwhile."""
        with self._lock:
            self._look_at(Board())  # the worker's own is memory of another process
            wake = checkpoint.park(self.line, messages.pack(parked))
            woken = cast(Woken, messages.unpack(wake.payload))
            if woken.moved is not None:
                self._move(woken.moved)
            else:
                self._look_at(Board.at(self._board))
        return woken

    def _move(self, moved: Moved) -> None:
        """Belong to the worker that restored this process. The time limit of the one before is none of its."""
        self._is_late = False
        os.environ.update(moved.environment)
        failpoints.load_again(os.environ.get("TRIGGERAPP_FAIL", ""))
        self._settle(moved.place)
        if self._context is not None:
            self._context.update(dict(moved.request))

    def _settle(self, place: Place) -> None:
        self._board = place.board
        self._look_at(Board.at(place.board), place.seen)
        logging.root.setLevel(place.level)

    def _look_at(self, board: Board, seen: bytes | None = None) -> None:
        identity.look_at(board)
        self._watch.move_to(board, seen)

    def _receive(self) -> messages.Message:
        try:
            return messages.unpack(self.line.receive().payload)
        except Hung as problem:
            raise Orphaned(str(problem)) from problem

    def _disown(self) -> None:
        """A child that the user's code forks must not keep the line open, nor say anything on it."""
        if os.getppid() == self._pid:
            self.line.close()

    # -- signals -------------------------------------------------------------------------------

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Celery's soft time limit."""
        if self._is_standing:
            self._is_late = True
        elif self._suspension is not None:
            raise SoftTimeLimitExceeded

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """On its way to a wait and back nothing is raised in it: a limit that passes meanwhile is told at the end."""
        self._is_standing = True
        self._has_stood = True
        try:
            yield
        finally:
            self._is_standing = False
        if self._is_late:
            self._is_late = False
            raise SoftTimeLimitExceeded

    def _move_out(self, number: int, frame: FrameType | None) -> None:
        """Stand still here and now if the task's own code is at work; the supervisor asks again if not."""
        if self._suspension is not None and stack.is_in_users_code(frame):
            self._suspension.move()

    # -- its life ------------------------------------------------------------------------------

    def live(self) -> None:
        """Run what the supervisor sends, until it is gone."""
        logging.root.handlers[:] = [Forwarder(self.tell)]
        hearing.listen()
        os.register_at_fork(after_in_child=self._disown)
        signal.signal(SOFT_LIMIT, self._interrupt)
        signal.signal(MOVE_OUT, self._move_out)
        signals.worker_process_init.send(sender=None)
        self._registered = resources.registered()
        while True:
            job = self._receive()
            if isinstance(job, Job):
                self._settle(job.place)
                self.tell(self._run(job))

    def _run(self, job: Job) -> Returned | Raised:
        task = self.app.tasks[job.task]
        self._context = Context(dict(job.request))
        connections.close_unusable()
        with self._at_work(task, self._context):
            try:
                value = self._execute(task, self._context, job)
            except Orphaned:
                raise
            except BaseException as error:  # noqa: BLE001  (whatever leaves goes over to the tracer)
                portable = get_pickleable_exception(cast(Exception, error))
                return Raised(
                    error=portable,
                    traceback=traceback.format_exc(),
                    children=_children(self._context),
                    is_as_new=self._is_as_new(),
                )
        return Returned(value=value, children=_children(self._context), is_as_new=self._is_as_new())

    def _is_as_new(self) -> bool:
        """What one run holds or has registered is not to be in the way of another."""
        return not self._has_stood and resources.registered() == self._registered

    def _execute(self, task: Any, request: Context, job: Job) -> object:
        announce = announcing.announcer(task, request)
        self._suspension = ByCheckpoint(self, app=self.app, announce=announce)
        said = Teller(lambda line: self.tell(Said(line))) if conf.get().LOGS == "on" else SILENT
        self.tell(Begun())
        try:
            return running.run(
                task,
                request,
                args=job.args,
                kwargs=job.kwargs,
                claimed=job.claimed,
                suspension=self._suspension,
                watch=self._watch,
                log=said,
            )
        finally:
            self._suspension = None

    @contextmanager
    def _at_work(self, task: Any, context: Context) -> Iterator[None]:
        """As Celery's tracer: the task has its request."""
        _state._task_stack.push(task)  # type: ignore[attr-defined]
        task.request_stack.push(context)
        try:
            yield
        finally:
            task.request_stack.pop()
            _state._task_stack.pop()  # type: ignore[attr-defined]


def main(app: Celery) -> Callable[[Line], None]:
    """What a process forked for this app does with its life."""
    return lambda line: RunProcess(line, app).live()


def _children(context: Context) -> list[tuple[Any, ...]]:
    return [child.as_tuple() for child in context.__dict__.get("_children") or ()]
