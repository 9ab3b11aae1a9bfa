"""A durable task's message in the worker's main process: events, acknowledgement, lost processes.

No database handle is opened here: a process forked later would inherit it. What the database must
know goes down the pipe to the ticker (`workers.link`).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from signal import SIGKILL
from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.imports import instantiate, symbol_by_name
from celery.worker import state
from celery.worker.request import Request

from triggerapp.failpoints import point
from workers import link
from workers.errors import RecordedError
from workers.marks import CONTENT, HEADER

_DEFAULT_REQUEST = "celery.worker.request:Request"
_DEFAULT_STRATEGY = "celery.worker.strategy:default"

Handler = Callable[..., Any]


class DurableRequest(Request):
    """Celery's request, which also tells the ticker what became of the run."""

    # Celery's own; its type stubs do not know them.
    _content_type: str | None
    _content_encoding: str | None
    _request_dict: dict[str, Any]
    _already_revoked: bool
    _already_cancelled: bool
    _context: Context

    def __init_subclass__(cls, **options: Any) -> None:
        # Celery derives a class per task whose `on_success` replaces this one without calling it.
        super().__init_subclass__(**options)
        inner = cls.__dict__.get("on_success")
        if inner is not None and cls.__name__ == "Request":
            cls.on_success = _then_delivered(inner)  # type: ignore[method-assign]

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        if self._content_type:
            # The request that reaches the task does not say how its body was encoded.
            self._request_dict[CONTENT] = {"type": self._content_type, "encoding": self._content_encoding}

    @property
    def run_id(self) -> str | None:
        """The run that this message says to look at; None for producers that know nothing of us."""
        mark = self._request_dict.get(HEADER)
        return mark["run"] if mark else None

    @property
    def _again(self) -> bool:
        mark = self._request_dict.get(HEADER)
        return bool(mark and mark["lease"])

    @property
    def _told(self) -> bool:
        """Celery was told that a time limit killed the run: what is left to do is to roll it back."""
        mark = self._request_dict.get(HEADER)
        return bool(mark and mark.get("told"))

    def send_event(self, type: str, **fields: Any) -> None:
        """Monitors rank WAITING above these states, because they do not know it: only with `state` do they leave it."""
        if self._again and type == "task-started":
            fields |= {"state": "STARTED", "result": None}
        if self._again and type == "task-revoked":
            fields |= {"state": "REVOKED"}
        super().send_event(type, **fields)

    def acknowledge(self) -> None:
        """Celery's: from here on the broker forgets the message."""
        if not self.acknowledged:
            point("message.before_ack")
            super().acknowledge()
            point("message.after_ack")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Celery's handler, but a run that left or lost its process has not failed.

        Celery's raises a task's `MemoryError` in this process, and the worker dies by it; told it was by the pool.
        """
        exc = _unwrap(exc_info.exception)
        if self._already_cancelled and isinstance(exc, (WorkerLostError, Terminated, SystemExit)):
            return None  # the process that `cancel` killed
        if self._told and isinstance(exc, TimeLimitExceeded):
            return None  # see `on_timeout`
        if isinstance(exc, (WorkerLostError, SystemExit, KeyboardInterrupt)) and not self._ended_by_us():
            return self._lost()
        if isinstance(exc, MemoryError):
            exc_info.exception = RecordedError("MemoryError", str(exc))
        outcome = super().on_failure(exc_info, send_failed_event, return_ok)
        if isinstance(exc, TimeLimitExceeded):  # `on_timeout` follows, by which Celery would tell these again
            self._context.update(errbacks=None, chord=None, chain=None)
        if isinstance(exc, Ignore):
            self._left(exc)
        elif isinstance(exc, Terminated):
            link.tell("canceled", task=self.id)
        elif not isinstance(exc, (Retry, Reject)):
            link.tell("delivered", run=self.run_id, task=self.id)
        return outcome

    def _ended_by_us(self) -> bool:
        return bool(self._already_revoked or self._already_cancelled)

    def _lost(self) -> None:
        """The pool process died: the run goes on from its journal, here or elsewhere."""
        state.task_ready(self)
        self.acknowledge()
        link.tell("lost", run=self.run_id, task=self.id)

    def _left(self, exc: Exception) -> None:
        description = getattr(exc, "description", "")
        if description:
            self.send_event("task-waiting", result=description)
        self._keep_newer()

    def _keep_newer(self) -> None:
        """The run may be back already: Celery then forgot the new message together with this one."""
        for other in list(state.reserved_requests):
            if other.id == self.id and other is not self:
                state.requests[self.id] = other

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A hard time limit ends the run; it bounds one segment, not the waits."""
        if soft or not self._told:
            super().on_timeout(soft, timeout)
        else:
            state.task_ready(self)
            self.acknowledge()
        if not soft:
            link.tell("timed_out", run=self.run_id, task=self.id, seconds=timeout)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Cold shutdown: the run goes on elsewhere; Celery would note RETRY, or lose it."""
        if self.time_start is None or has_answered(pool, self.worker_pid):
            return  # what it answers is read before the worker ends
        self._already_cancelled = True
        try:
            pool.terminate_job(self.worker_pid, SIGKILL)
        except NotImplementedError:  # a thread cannot be killed; the run in it stops at its next step
            return
        state.task_ready(self)
        self.acknowledge()
        link.tell("killed", run=self.run_id, task=self.id)

    def revoked(self) -> bool:
        """Celery's judgement; an expired or revoked message ends its run."""
        told = self.id in state.revoked  # before Celery looks: it notes an expired message as a revoked one
        revoked = bool(super().revoked())
        if revoked:
            link.tell("expired" if self.expires and not told else "canceled", task=self.id)
        return revoked


def has_answered(pool: Any, pid: object) -> bool:
    """Whether this pool process has said what became of its task, which this process has not read yet."""
    pipes = tuple(getattr(pool._pool, "_fileno_to_outq", {}).items())  # threads and greenlets have none
    return any(_is_readable(descriptor) for descriptor, process in pipes if process.pid == pid)


def _is_readable(descriptor: int) -> bool:
    answers = select.poll()
    answers.register(descriptor, select.POLLIN)
    return bool(answers.poll(0))


def _then_delivered(inner: Handler) -> Handler:
    def on_success(self: Any, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        outcome = inner(self, failed__retval__runtime, **kwargs)
        if not failed__retval__runtime[0]:
            link.tell("delivered", run=self.run_id, task=self.id)
        return outcome

    return on_success


def _unwrap(exc: BaseException) -> BaseException:
    return exc.exc if isinstance(exc, ExceptionWithTraceback) else exc


def combined_request(users: Any, ours: type[DurableRequest] = DurableRequest) -> Any:
    """Our request class; joined with the user's own if there is one."""
    if users == _DEFAULT_REQUEST:
        return ours
    cls = symbol_by_name(users)
    return cls if issubclass(cls, ours) else type(cls.__name__, (ours, cls), {})


def strategy(users: Any) -> Any:
    """The user's strategy (or Celery's), that charges the rate limit once per run and not per segment."""

    def durable_strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Handler:
        first = instantiate(users, task, app, consumer, **options)
        limited, consumer.disable_rate_limits = consumer.disable_rate_limits, True
        again = instantiate(users, task, app, consumer, **options)
        consumer.disable_rate_limits = limited

        def handler(message: Any, *args: Any, **kwargs: Any) -> Any:
            mark = message.headers.get(HEADER)
            return (again if mark and mark["lease"] else first)(message, *args, **kwargs)

        return handler

    return durable_strategy
