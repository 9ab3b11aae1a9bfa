"""Where a run's process comes from: its image, a process that served another run, or the worker's zygote."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery.exceptions import Ignore

from checkpoint import CheckpointError, RestoreFailed, Sandbox, Unborn, Zygote
from checkpoint.line import Hung, Word
from checkpoint.line import Message as LineMessage
from triggerapp.engine import checkpoints
from triggerapp.engine.checkpoints import Taken
from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Resolution
from triggerapp.failpoints import point
from workers import freezing, messages
from workers.messages import Job, Moved, Place, Woken
from workers.patience import UNANSWERED, patiently
from workers.supervision import idle
from workers.supervision.life import Life, State

log = logging.getLogger(__name__)

_MOVES = ("hostname", "delivery_info", "timelimit", "reply_to")
"""What of a request is of the worker rather than of the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run as the pool process has it that supervises it."""

    task: Any
    request: Any
    claimed: Claimed
    place: Place
    zygote: Zygote

    def note(self, text: str) -> None:
        """Write on the run's attempt why it is not kept as an image. That this cannot be written fails no run."""
        log.warning("run %s: %s", self.claimed.run_id, text)
        with suppress(*UNANSWERED):
            patiently(lambda: checkpoints.note(self.claimed.run_id, text, lease=self.claimed.lease))

    def note_tried(self, taken: Taken, started: float, *, problem: str = "") -> None:
        """Write how it went to restore the run. A database that does not answer is not waited for."""
        run_id, lease, took = self.claimed.run_id, self.claimed.lease, timedelta(seconds=time.monotonic() - started)
        with suppress(*UNANSWERED):
            host = socket.gethostname()
            checkpoints.note_tried(run_id, taken.id, lease=lease, host=host, took=took, problem=problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Born:
    """What is known of a process by where it came from."""

    taken: Taken | None = None
    """The image that the run had when it was claimed, whether or not the process came from it."""
    is_restored: bool = False
    base: str | None = None
    """What the image of a restored process was reduced by."""


def begin(case: Case, life: Life, args: Any, kwargs: Any) -> Born:
    """Restore the run's process, or have another one enter the function. `Unborn` if neither can be."""
    started = time.monotonic()
    taken = _taken(case.claimed)
    if taken is not None:
        try:
            process, base = _restore(case, taken)
        except (CheckpointError, OSError, ValueError) as problem:
            case.note(f"entered again and not restored: {problem}")
            case.note_tried(taken, started, problem=str(problem) or type(problem).__name__)
        else:
            life.begin(process, State.WOKEN)
            case.note_tried(taken, started)
            return Born(taken=taken, is_restored=True, base=base)
    life.begin(_start(case, args, kwargs), State.BORN)
    return Born(taken=taken)


# -- by an image -----------------------------------------------------------------------------------


def _taken(claimed: Claimed) -> Taken | None:
    if not claimed.again:
        return None
    try:
        return patiently(lambda: checkpoints.take(claimed.run_id, lease=claimed.lease))
    except UNANSWERED as error:  # the worker's roll call gives the run back
        raise Ignore(f"the run's image was not looked up: the database did not answer ({error})") from error


def _restore(case: Case, taken: Taken) -> tuple[Sandbox, str | None]:
    """The run's process, awake, and the base of its image. Raises why that cannot be."""
    woken = _woken(case, taken)
    process, base = freezing.thaw(taken, run=case.claimed.run_id)
    try:
        point("restore.after")
        process = replace(process, leash=case.zygote.watch(process.pid))
        process.wake(messages.pack(woken), restored=True)
        point("callback.after")
    except BaseException:
        process.end()
        raise
    return process, base


def _woken(case: Case, taken: Taken) -> Woken:
    """What the process is woken with: how its wait ended, and where it is now."""
    if taken.objection:
        raise RestoreFailed(taken.objection)
    moved = Moved(
        claimed=case.claimed,
        place=case.place,
        request={name: getattr(case.request, name, None) for name in _MOVES},
        environment={**os.environ, "TRIGGERAPP_ZYGOTE_OF": str(os.getppid())},
    )
    return Woken(resolution=None if taken.wait is None else _resolution(case.claimed, taken.wait), moved=moved)


def _resolution(claimed: Claimed, wait: UUID) -> Resolution:
    row = next((row for row in claimed.waits if str(row["id"]) == str(wait)), None)
    if row is None or row["status"] == "pending":
        raise RestoreFailed("what it waits for has not come")
    return Resolution(status=row["status"], value=row["value"], event=row["event"], wait=wait)


# -- anew ------------------------------------------------------------------------------------------


def _start(case: Case, args: Any, kwargs: Any) -> Sandbox:
    """A process that has the job."""
    raw = LineMessage(Word.NOTE, _job(case, args, kwargs))
    kept = idle.take()
    if kept is not None and _hand_over(kept, raw):
        return kept
    process = case.zygote.fork()
    if not _hand_over(process, raw):
        raise Unborn(f"process {process.pid} ended as soon as it was forked")
    return process


def _hand_over(process: Sandbox, raw: LineMessage) -> bool:
    """Whether it has the job; one that has not is gone."""
    try:
        process.line.send(raw)
    except Hung:
        process.end()
        return False
    except ValueError as problem:
        process.end()
        raise Unborn(str(problem)) from problem
    return True


def _job(case: Case, args: Any, kwargs: Any) -> bytes:
    job = Job(
        task=case.task.name,
        args=args,
        kwargs=kwargs,
        request={name: value for name, value in vars(case.request).items() if not name.startswith("_")},
        claimed=case.claimed,
        place=case.place,
    )
    try:
        return messages.pack(job)
    except Exception as problem:  # arguments are whatever the broker's serializer makes of them
        raise Unborn(f"the task's message cannot be handed on: {problem}") from problem
