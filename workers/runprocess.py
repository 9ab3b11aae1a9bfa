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
from collections.abc import Callable, Iterator, Mapping
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
from triggerapp import failpoints
from workers import connections, executor, messages
from workers.messages import Job, Leaving, Logged, Parked, Raised, Returned, Woken
from workers.parking import ByCheckpoint

_RECORD = frozenset(vars(logging.makeLogRecord({})))


class RunProcess:
    """This process, as one who runs runs."""

    def __init__(self, line: Line, app: Celery) -> None:
        self.line = line
        self.app = app
        self.is_leaving = False
        self._lock = RLock()
        self._pid = os.getpid()
        self._context: Context | None = None

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
            wake = checkpoint.park(self.line, messages.pack(parked))
        woken = cast(Woken, messages.unpack(wake.payload))
        if woken.environment is not None:
            self._move(woken.environment, woken.request or {})
        return woken

    def _move(self, environment: Mapping[str, str], request: Mapping[str, Any]) -> None:
        """Belong to the worker that restored this process."""
        self.is_leaving = False
        os.environ.update(environment)
        failpoints.load(os.environ.get("TRIGGERAPP_FAIL", ""))
        if self._context is not None:
            self._context.update(dict(request))

    def must_leave(self) -> bool:
        """Whether the worker shuts down. All that a supervisor says unasked is that."""
        with self._lock:
            if not self.is_leaving and self.line.has_word():
                self.is_leaving = isinstance(self._receive(), Leaving)
        return self.is_leaving

    def _receive(self) -> messages.Message:
        try:
            return messages.unpack(self.line.receive().payload)
        except Hung as problem:
            raise Orphaned(str(problem)) from problem

    def _disown(self) -> None:
        """A child that the user's code forks must not keep the line open, nor say anything on it."""
        if os.getppid() == self._pid:
            self.line.close()

    # -- its life ------------------------------------------------------------------------------

    def live(self) -> None:
        """Run what the supervisor sends, until it is gone."""
        logging.root.handlers[:] = [_Forwarder(self.tell)]
        os.register_at_fork(after_in_child=self._disown)
        signals.worker_process_init.send(sender=None)
        while True:
            job = self._receive()
            if isinstance(job, Job):
                logging.root.setLevel(job.level)
                self.tell(self._run(job))

    def _run(self, job: Job) -> Returned | Raised:
        task = self.app.tasks[job.task]
        self._context = Context(dict(job.request))
        connections.close_unusable()
        with _at_work(task, self._context):
            try:
                value = self._execute(task, self._context, job)
            except Orphaned:
                raise
            except BaseException as error:  # noqa: BLE001  (whatever leaves goes over to the tracer)
                portable = get_pickleable_exception(cast(Exception, error))
                return Raised(error=portable, traceback=traceback.format_exc(), children=_children(self._context))
        return Returned(value=value, children=_children(self._context))

    def _execute(self, task: Any, request: Context, job: Job) -> object:
        announce = executor.announcer(task, request)
        suspension = ByCheckpoint(self, app=self.app, announce=announce)
        return executor.run(task, request, job.args, job.kwargs, job.claimed, suspension)


def main(app: Celery) -> Callable[[Line], None]:
    """What a process forked for this app does with its life."""
    return lambda line: RunProcess(line, app).live()


@contextmanager
def _at_work(task: Any, context: Context) -> Iterator[None]:
    """As Celery's tracer: the task has its request, and the soft time limit reaches it."""
    before = signal.signal(signal.SIGUSR1, _out_of_time)
    _state._task_stack.push(task)  # type: ignore[attr-defined]
    task.request_stack.push(context)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN if before is None else before)
        task.request_stack.pop()
        _state._task_stack.pop()  # type: ignore[attr-defined]


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise SoftTimeLimitExceeded


def _children(context: Context) -> list[tuple[Any, ...]]:
    return [child.as_tuple() for child in context.__dict__.get("_children") or ()]


class _Forwarder(logging.Handler):
    """Sends log records to the supervisor, whose handlers write them as they write its own."""

    def __init__(self, tell: Callable[[messages.Message], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._tell(Logged(_portable(record)))
        except Exception:  # noqa: BLE001  (as every handler of logging)
            self.handleError(record)


def _portable(record: logging.LogRecord) -> logging.LogRecord:
    """The record without what does not pickle: its text is made here; of what was added plain values stay."""
    formatter = logging.Formatter()
    text = record.getMessage()
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    plain = {
        name: value
        for name, value in vars(record).items()
        if name in _RECORD or isinstance(value, str | int | float | bool | None)
    }
    return logging.makeLogRecord({**plain, "msg": text, "args": None, "exc_info": None})
