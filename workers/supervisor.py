"""The pool process as supervisor of a run process: it has the message, the other one has the function.

It follows the run to its outcome, which it hands to Celery's tracer as if the function had run here. At a wait it dumps
the process, stores the image, commits the wait with it, and only then kills the process; whatever fails on the way
costs nothing, the process goes on.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast
from uuid import UUID, uuid4

from celery.exceptions import Ignore
from celery.result import result_from_tuple

from checkpoint import (
    CheckpointError,
    Label,
    RestoreFailed,
    Sandbox,
    Unborn,
    Zygote,
    processes,
)
from checkpoint.line import Hung, Word
from checkpoint.line import Message as LineMessage
from triggerapp import imagestore
from triggerapp.engine import checkpoints, rescue
from triggerapp.engine.checkpoints import Made, Taken
from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Resolution
from triggerapp.errors import StaleRun
from triggerapp.failpoints import point
from workers import base, freezing, identity, logs, messages, records
from workers.board import Watch
from workers.messages import (
    MOVE_OUT,
    SOFT_LIMIT,
    Begun,
    Job,
    Logged,
    Moved,
    Parked,
    Place,
    Raised,
    RemoteTraceback,
    Returned,
    Said,
    Woken,
)
from workers.patience import UNANSWERED, patiently
from workers.tracer import Suspended

log = logging.getLogger(__name__)

_LOOK = 0.2
"""Seconds between two looks at whether the worker is leaving."""
_MOVES = ("hostname", "delivery_info", "timelimit", "reply_to")
"""What of a request is of the worker rather than of the task."""


def run(task: Any, request: Any, args: Any, kwargs: Any, claimed: Claimed, watch: Watch) -> object:
    """The task's value, or raises what it raised. Raises `Unborn` if no process could be had: nothing has happened."""
    mine = _Supervision(task, request, claimed, watch)
    mine.begin(args, kwargs)
    return mine.follow()


class _Supervision:
    """One run, from here to where it ends or leaves."""

    def __init__(self, task: Any, request: Any, claimed: Claimed, watch: Watch) -> None:
        self.watch = watch
        self.place = _place(watch)
        self.task = task
        self.request = request
        self.claimed = claimed
        self.log = logs.of(claimed)
        self.zygote = Zygote(_home() / "zygote")
        self.taken: Taken | None = None
        self.base: str | None = None
        """The base that the image was reduced by which the process came from."""
        self.process: Sandbox = cast(Sandbox, None)
        self.is_over = False
        self.is_restored = False
        self.is_used = False
        """Whether the process was woken from a wait: it does not serve another run."""
        self.is_awake = False
        """Whether it may be signaled: it is at work, and does not stand at a wait."""
        self.is_late = False
        self.must_move = False

    def begin(self, args: Any, kwargs: Any) -> None:
        """Restore the run's process, or have a new one enter the function."""
        self.process = self._restore() or self._start(args, kwargs)
        os.set_blocking(self.process.output, False)

    # -- beginning -----------------------------------------------------------------------------

    def _start(self, args: Any, kwargs: Any) -> Sandbox:
        job = Job(
            task=self.task.name,
            args=args,
            kwargs=kwargs,
            request={name: value for name, value in vars(self.request).items() if not name.startswith("_")},
            claimed=self.claimed,
            place=self.place,
        )
        try:
            raw = LineMessage(Word.NOTE, messages.pack(job))
        except Exception as problem:  # arguments are whatever the broker's serializer makes of them
            raise Unborn(f"the task's message cannot be handed on: {problem}") from problem
        idle = _idle.take()
        if idle is not None:
            with suppress(Hung):
                idle.line.send(raw)
                return idle
            idle.end()
        process = self.zygote.fork()
        process.line.send(raw)
        return process

    def _restore(self) -> Sandbox | None:
        """The run's process from its image; None, and the attempt says why, if that cannot be."""
        if not self.claimed.again:
            return None
        run_id, lease = self.claimed.run_id, self.claimed.lease
        self.taken = patiently(lambda: checkpoints.take(run_id, lease=lease))
        if self.taken is None:
            return None
        try:
            woken = self._woken(self.taken)
            return self._thaw(self.taken, woken)
        except (CheckpointError, OSError) as problem:
            self._note(f"entered again and not restored: {problem}")
            return None

    def _woken(self, taken: Taken) -> Woken:
        """What the process is woken with: how its wait ended, and where it is now."""
        if taken.objection:
            raise RestoreFailed(taken.objection)
        moved = Moved(
            claimed=self.claimed,
            place=self.place,
            request={name: getattr(self.request, name, None) for name in _MOVES},
            environment={**os.environ, "TRIGGERAPP_ZYGOTE_OF": str(os.getppid())},
        )
        return Woken(resolution=None if taken.wait is None else self._resolution(taken.wait), moved=moved)

    def _resolution(self, wait: UUID) -> Resolution:
        row = next((row for row in self.claimed.waits if str(row["id"]) == str(wait)), None)
        if row is None or row["status"] == "pending":
            raise RestoreFailed("what it waits for has not come")
        return Resolution(status=row["status"], value=row["value"], event=row["event"], wait=wait)

    def _thaw(self, taken: Taken, woken: Woken) -> Sandbox:
        process, self.base = freezing.thaw(taken, run=self.claimed.run_id)
        try:
            point("restore.after")
            process = replace(process, leash=self.zygote.watch(process.pid))
            process.wake(messages.pack(woken), restored=True)
            point("callback.after")
        except BaseException:
            process.end()
            raise
        self.is_used = self.is_restored = self.is_awake = True
        return process

    def _note(self, text: str) -> None:
        log.warning("run %s: %s", self.claimed.run_id, text)
        patiently(lambda: checkpoints.note(self.claimed.run_id, text, lease=self.claimed.lease))

    # -- following -----------------------------------------------------------------------------

    def follow(self) -> object:
        """The task's value, or raises what is to be told to Celery; the process is gone then, or idle."""
        try:
            with self._limits_passed_on():
                outcome = self._outcome()
        except Hung:
            self._lost()
        except BaseException:
            self._end()
            raise
        return self._finish(outcome)

    def _end(self) -> None:
        """Kill the process, once: its pid is somebody else's soon."""
        if not self.is_over:
            self.is_over, self.is_awake = True, False
            self.log.flush()
            self.process.end()

    def _outcome(self) -> Returned | Raised:
        while True:
            said = self._next()
            message = messages.unpack(said.payload)
            match message:
                case Begun():
                    self.is_awake = True
                case Logged(record=record):
                    records.log_again(record)
                case Said(line=line):
                    self.log.hear(line)
                case Parked():
                    self._park(message)
                case Returned() | Raised():
                    return message

    def _next(self) -> LineMessage:
        """What the process says next on its line; what it prints meanwhile is printed here."""
        poll = select.poll()
        poll.register(self.process.line.fileno(), select.POLLIN)
        poll.register(self.process.output, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(_LOOK * 1000)]
            if self.process.output in ready and not self._print():
                poll.unregister(self.process.output)
            if self.process.line.fileno() in ready:
                return self.process.line.receive()
            self._look_around()

    def _look_around(self) -> None:
        """Have the process move out if the worker shuts down, or if somebody asked for it."""
        run_id, lease = self.claimed.run_id, self.claimed.lease
        if self.watch.has_news(run_id):
            with suppress(*UNANSWERED):
                self.must_move = checkpoints.must_move(run_id, lease=lease)
        if self.is_awake and (self.must_move or identity.is_leaving()):
            self._signal(MOVE_OUT)

    def _print(self) -> bool:
        """Pass on what was printed; False if there will be no more."""
        with suppress(BlockingIOError):
            while printed := os.read(self.process.output, 1 << 16):
                os.write(2, printed)
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    @contextmanager
    def _limits_passed_on(self) -> Iterator[None]:
        """Celery's soft time limit is raised in the function, not in its supervisor."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGUSR1, lambda *_: self._interrupt())
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _interrupt(self) -> None:
        self.is_late = not self.is_awake
        if self.is_awake:
            self._signal(SOFT_LIMIT)

    # -- at a wait -----------------------------------------------------------------------------

    def _park(self, parked: Parked) -> None:
        """Dump the process and leave it: raises what says so to Celery. Returns where it goes on here."""
        self.is_awake = False
        self._print()
        self.log.flush()
        try:
            made = self._dump()
        except (CheckpointError, OSError) as problem:
            self._note(f"not dumped at {parked.at}: {problem}")
            return self._wake(Woken())
        try:
            entered = patiently(_Commit(self.claimed, parked, made))
        except StaleRun as stale:
            imagestore.delete([made.id])
            self._end()
            raise Ignore(str(stale)) from stale
        except UNANSWERED:  # whether it was committed is not known: its image stays until that is
            return self._wake(Woken())
        if isinstance(entered, Resolution):
            imagestore.delete([made.id])
            return self._wake(Woken(resolution=entered))
        point("kill.before")
        self._end()
        point("kill.after")
        imagestore.delete([entered])
        raise Suspended(parked.description)

    def _dump(self) -> Made:
        sequence = 1 + (self.taken.sequence if self.taken else 0)
        label = Label(checkpoint=uuid4(), run=self.claimed.run_id, sequence=sequence, lease=self.claimed.lease)
        if not self.is_restored:
            self.base = base.of(_home(), freezing.parent_of(self.process.pid))
        return freezing.dump(self.process, label, base=self.base)

    def _wake(self, woken: Woken) -> None:
        """It goes on here. One that does not call back is lost."""
        processes.thaw(self.process.pid)
        try:
            self.process.wake(messages.pack(woken), restored=False)
        except RestoreFailed as problem:
            self.is_over = True
            raise Hung(str(problem)) from problem
        self.is_used = self.is_awake = True
        if self.is_late:
            self.is_late = False
            self._interrupt()

    # -- the end -------------------------------------------------------------------------------

    def _finish(self, outcome: Returned | Raised) -> object:
        self._print()
        self.log.flush()
        for child in outcome.children:
            self.request.children.append(result_from_tuple(child, app=self.task.app))
        left = isinstance(outcome, Raised) and isinstance(outcome.error, Suspended)
        self._retire()
        if self.taken is not None and not left:
            with suppress(*UNANSWERED):  # the run is over all the same; a tick deletes what is left
                imagestore.delete([checkpoints.discard(self.claimed.run_id)])
        if isinstance(outcome, Returned):
            return outcome.value
        if not isinstance(outcome.error, Ignore):
            outcome.error.__cause__ = RemoteTraceback(outcome.traceback)
        raise outcome.error

    def _retire(self) -> None:
        if self.is_used or _is_too_large(self.process.pid, self.task.app.conf.worker_max_memory_per_child):
            self.process.release()
        else:
            _idle.put(self.process)

    def _lost(self) -> NoReturn:
        """The process died under the run: like a pool process that dies, but this one is left to say so."""
        self._end()
        run_id = self.claimed.run_id
        patiently(lambda: rescue.rescue_lost([run_id], identity.worker()))
        raise Ignore(f"run {run_id} lost its process; it goes on elsewhere")


class _Commit:
    """The wait and its checkpoint in the database; safe to repeat after a commit of unknown outcome.

    Answers how the wait ended, or which image was replaced.
    """

    def __init__(self, claimed: Claimed, parked: Parked, made: Made) -> None:
        self.claimed = claimed
        self.parked = parked
        self.made = made
        self.is_again = False

    def __call__(self) -> Resolution | UUID | None:
        if self.is_again and checkpoints.is_kept(self.made.id):
            return None
        self.is_again = True
        run_id, lease = self.claimed.run_id, self.claimed.lease
        if self.parked.opening is None:
            return checkpoints.release(run_id, self.made, lease=lease)
        entered, replaced = checkpoints.suspend(
            run_id, self.parked.opening, self.made, lease=lease, open_wait=self.parked.open_wait
        )
        return entered if isinstance(entered, Resolution) else replaced


class _Idle:
    """Processes whose run never waited: each serves another one."""

    def __init__(self) -> None:
        self._processes: list[Sandbox] = []

    def take(self) -> Sandbox | None:
        with suppress(IndexError):
            return self._processes.pop()
        return None

    def put(self, process: Sandbox) -> None:
        self._processes.append(process)


_idle = _Idle()


def _home() -> Path:
    home = identity.home()
    if home is None:
        raise Unborn("this worker has no zygote")
    return home


def _is_too_large(pid: int, limit: int | None) -> bool:
    """Whether the process has more than `worker_max_memory_per_child`, in KiB."""
    if not limit:
        return False
    with suppress(OSError):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE") > limit * 1024
    return True


def _place(watch: Watch) -> Place:
    """Where a run process of this worker belongs."""
    return Place(board=f"/proc/{os.getppid()}/fd/{identity.board().fd}", seen=watch.seen, level=logging.root.level)
