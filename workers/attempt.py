"""One attempt of a run, from first line to outcome, in whatever process it runs.

What the user's code calls (`step`, `wait`, `events`, `trigger`) ends here. The rule: first ask the
journal; then do the thing once; then record it under the run's lease.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from celery.exceptions import Ignore, Reject, Retry
from django.db import transaction

from triggerapp import clock
from triggerapp.engine import events, runs, steps, triggers, undoing, waits
from triggerapp.engine.runs import Claimed
from triggerapp.engine.sql import Row
from triggerapp.engine.triggers import Trigger, Triggered
from triggerapp.engine.waits import Opening, Resolution
from triggerapp.errors import StaleRun
from triggerapp.models import WaitKind, WaitStatus
from workers import codec, context, journal, loops
from workers.board import Watch
from workers.errors import MaxDurationExceeded, Suspend
from workers.logs import SILENT, Log
from workers.outcomes import PendingRetry
from workers.patience import patiently
from workers.retry import RetryPolicy
from workers.rollbacks import Rollback, Rollbacks, refuse_in_step
from workers.suspension import StopNow, Suspension, WhileUndoing

Call = Callable[[], object]
T = TypeVar("T")


class RollBackNow(Suspend):
    """Leaves a function that was entered again only to find its rollbacks."""


class Attempt:
    """The run in progress, for the code that runs in it."""

    def __init__(
        self,
        claimed: Claimed,
        *,
        task: str,
        suspension: Suspension,
        retries: int = 0,
        is_eager: bool = False,
        watch: Watch | None = None,
        log: Log = SILENT,
    ) -> None:
        self.run_id = claimed.run_id
        self.task = task
        self._hold(claimed)
        self.environment = claimed.environment
        self.root = claimed.root or claimed.run_id
        self.parent = claimed.parent
        self.tags = tuple(claimed.tags)
        self.is_replay = claimed.replayed
        self.is_eager = is_eager
        self.journal = journal.Journal(steps=claimed.steps, waits=claimed.waits, children=claimed.children)
        self.left_at: str | None = None
        """The wait or step at which the function was left; it has no business to go on."""
        self.pending_retry: PendingRetry | None = None
        self.task_id = claimed.task_id
        self._suspension = suspension
        self._watch = watch
        self.log = log
        self._retries = retries
        self._rolling_back = claimed.error is not None
        self.rollbacks, self._counted = Rollbacks(), claimed.rollbacks

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.run_id)

    def take_over(self, claimed: Claimed) -> None:
        """Go on under a new lease in a process that was restored: what others have recorded since counts."""
        self._hold(claimed)
        self.journal.learn(steps=claimed.steps, waits=claimed.waits, children=claimed.children)

    def _hold(self, claimed: Claimed) -> None:
        """What each claim brings anew."""
        self.lease = claimed.lease
        self.number = claimed.attempt
        self.metadata: Mapping[str, Any] = claimed.metadata
        self._ends_at = _end_of(claimed)

    @loops.holding
    def set_metadata(self, **values: object) -> None:
        """Add to the run's metadata, for people and programs that look on."""
        merged = json.loads(codec.dumps({**self.metadata, **values}, what="the metadata", limit=256 * 1024))
        with self.while_held("the metadata"):
            runs.set_metadata(self.run_id, merged, lease=self.lease)
        self.metadata = merged

    @property
    def idempotency_key(self) -> str:
        """Stable for the step in progress over all its tries: hand it to third parties."""
        return f"{self.run_id}:{journal.enclosing()}"

    # -- steps ---------------------------------------------------------------------------------

    @loops.holding
    def step(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        name: str | None = None,
        key: str | None = None,
        retry: RetryPolicy | None = None,
        rollback: Callable[..., Any] | None = None,
    ) -> Any:
        """Call once and record, or answer from the journal."""
        if rollback is not None:
            refuse_in_step(f"the rollback of step {key or journal.name_of(fn)}")
        key = self.journal.identify(name or journal.name_of(fn), key)
        digest = codec.digest(args, kwargs)
        self.journal.ask("step", key, digest)
        recorded = self.journal.recall(key)
        if recorded is not None:
            value = recorded.outcome(key, digest)
        else:
            call = partial(fn, *args, **kwargs)
            value = self._perform(key, call, digest=digest, retry=retry, undoable=rollback is not None)
        if rollback is not None and key not in self.journal.undone:
            self._undo_with(f"rollback:of:{key}", rollback, args, kwargs, undoes=key)
        return value

    def _perform(self, key: str, call: Call, *, digest: str, retry: RetryPolicy | None, undoable: bool) -> object:
        """Make the call, again after a pause where `retry` wants it, and record how it ended.

        Each attempt has all tries of the policy, and so has each try of an enclosing step.
        """
        pauses = f"{key}{journal.PAUSE}{journal.tries(self.number)}."
        for number in count(1 + sum(waited.startswith(pauses) for waited in self.journal.waits)):
            self._before_new(key)
            started = time.monotonic()
            try:
                with journal.trying(number):
                    value, text = self._call(key, call)
            except (Retry, Ignore, Reject):
                raise
            except Exception as error:
                pause = retry.delay(number) if retry is not None and retry.wants(error) else None
                if pause is None or self.left_at is not None:
                    self._record_failure(key, error, digest=digest, started=started)
                    raise
                self.begin_again(key, error)
            else:
                self._record(key, digest, started, value=text, undoable=undoable)
                return value
            self.sleep(pause, key=journal.local(f"{pauses}{number}"))
        raise AssertionError(key)

    def _call(self, key: str, call: Call) -> tuple[object, str]:
        with journal.inside(key):
            value = loops.finished(call())
        return value, codec.dumps(value, what=f"the result of step {key}")

    def _record_failure(self, key: str, error: Exception, *, digest: str, started: float) -> None:
        """Nothing is recorded of code that went on after its run was left: what it raises is not the step's doing."""
        if self.left_at is None:
            self._record(key, digest, started, error=error)
            journal.blame(error, [key])

    def _record(
        self,
        key: str,
        digest: str,
        started: float,
        *,
        value: str | None = None,
        error: BaseException | None = None,
        undoable: bool = False,
    ) -> None:
        text = None if error is None else json.dumps({**codec.dump_error(error), "steps": journal.failed_steps(error)})
        took = timedelta(seconds=time.monotonic() - started)
        write = partial(steps.record, self.run_id, key, digest=digest, value=value, error=text, took=took)
        self._write(key, partial(write, undoable=undoable, lease=self.lease))
        self.journal.steps[key] = journal.Recorded(digest=digest, value=value, error=text)

    def begin_again(self, key: str, error: BaseException) -> None:
        """In the next try of `key` what it had done is answered, and what failed on the way to `error` is called."""
        failed = [step for step in journal.failed_steps(error) if step.startswith(f"{key}/")]
        if failed and self.left_at is None:
            self._write(key, partial(steps.supersede, self.run_id, failed, lease=self.lease))
        self.journal.begin_again(key, failed)

    def _write(self, key: str, write: Callable[[], None]) -> None:
        with self.while_held(key):
            patiently(write)

    @contextmanager
    def while_held(self, what: str) -> Iterator[None]:
        """Leave the function if a write finds that the run is another's; code that catches even that begins nothing."""
        try:
            yield
        except StaleRun as stale:
            self.left_at = what
            raise StopNow(str(stale)) from stale

    def _before_new(self, what: str) -> None:
        """Nothing new may begin in a run that was left, is rolling back, has used up its time, or must move."""
        if self._rolling_back:
            raise RollBackNow(what)
        if self.left_at is not None:
            raise StopNow(f"{what} was not begun: the run was left at {self.left_at}")
        if self._ends_at and time.monotonic() > self._ends_at:
            raise MaxDurationExceeded(f"{what} was not begun: the run has computed for longer than its max_duration")
        self._check_held(what)
        self._suspension.check()

    def _check_held(self, what: str) -> None:
        """Begin nothing in a run that was canceled or taken over. The database is asked only if the board has news."""
        if self._watch is None or not self._watch.has_news(self.run_id):
            return
        if not patiently(partial(runs.holds, self.run_id, self.lease)):
            self.left_at = what
            raise StopNow(f"{what} was not begun: run {self.run_id} is no longer held with lease {self.lease}")
        self._watch.heard()

    # -- rollbacks -----------------------------------------------------------------------------

    @loops.holding
    def rollback(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Have `fn` called, newest first, if the run fails later."""
        refuse_in_step("rollback")
        key = self.journal.identify(f"rollback:{journal.name_of(fn)}")
        if not self.journal.is_repeating:  # else it would undo what the run that is replayed did
            self._undo_with(key, fn, args, kwargs, undoes=None)

    def _undo_with(
        self, key: str, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, undoes: str | None
    ) -> None:
        digest = codec.digest(args, kwargs)
        self.rollbacks.register(Rollback(key=key, undoes=undoes, call=lambda: fn(*args, **kwargs), digest=digest))
        if self._rolling_back:
            self._leave_if_all_are_found(key)
        elif self.rollbacks.of_no_step > self._counted:
            self._counted = self.rollbacks.of_no_step
            self._write(key, partial(undoing.count, self.run_id, self._counted, lease=self.lease))

    def _leave_if_all_are_found(self, key: str) -> None:
        """What comes after the last rollback that there was may be what killed the run: it is not called again."""
        if self.rollbacks.are_all(steps=self.journal.undoable, others=self._counted):
            raise RollBackNow(key)

    def roll_back_into(self, error: dict[str, Any]) -> None:
        """Roll back, and note in the run's error what could not be undone."""
        self._rolling_back, self._ends_at, self._suspension = False, None, WhileUndoing()
        with context.entered(self):
            self.rollbacks.run(
                done=self.journal.steps.__contains__, record=self._record_rollback, begin_again=self.begin_again
            )
        self.rollbacks.note_left(error, recorded=self.journal.steps, undoable=self.journal.undoable)

    def _record_rollback(self, rollback: Rollback, started: float, error: BaseException | None) -> None:
        self._record(rollback.key, rollback.digest, started, value="null" if error is None else None, error=error)
        if error is None and rollback.undoes is not None:
            patiently(partial(steps.mark_undone, self.run_id, rollback.undoes, lease=self.lease))

    # -- waits ---------------------------------------------------------------------------------

    @loops.holding
    def wait(self, name: str, opening: Callable[[str], Opening], *, key: str | None = None) -> Resolution:
        """Wait, or answer from the journal."""
        key = self.journal.identify(name, key)
        self.journal.ask("wait", key, name)
        row = self.journal.waits.get(key)
        if row is not None and row["status"] != WaitStatus.PENDING:
            return Resolution(status=row["status"], value=row["value"], event=row["event"], wait=UUID(str(row["id"])))
        self._before_new(key)
        open_wait = UUID(str(row["id"])) if row is not None else None
        self.log.flush()
        resolution = self._suspension.wait(self, opening(key), open_wait=open_wait)
        self.journal.waits[key] = {
            "id": str(resolution.wait),
            "key": key,
            "status": resolution.status,
            "value": resolution.value,
            "event": resolution.event,
        }
        return resolution

    def sleep(self, pause: timedelta, *, key: str | None = None) -> None:
        """Wait for a timer."""
        self.wait("sleep", lambda key: Opening(key=key, kind=WaitKind.TIMER, deadline=pause), key=key)

    @loops.holding
    def create_token(self, deadline: waits.Deadline, *, tags: Sequence[str] = (), key: str | None = None) -> UUID:
        """A token of this run; the same one on every entry."""
        key = self.journal.identify("token", key)
        row = self.journal.waits.get(key)
        if row is not None:
            return UUID(str(row["id"]))
        self._before_new(key)
        create = partial(waits.create_token, self.environment, run_id=self.run_id, key=key, tags=tags)
        token, _ = self._fenced(partial(create, deadline=deadline))
        return token

    @loops.holding
    def wait_for_token(self, token: UUID, *, deadline: waits.Deadline) -> Resolution:
        """Wait for a token that this run, or somebody else, has made."""
        named = self.journal.identify("for_token")  # on every entry, or the next token would have this one's name
        known = (row for row in self.journal.waits.values() if str(row["id"]) == str(token))
        row = next(known, None) or self.journal.waits.get(named)
        if row is not None and row["status"] != WaitStatus.PENDING:
            return Resolution(status=row["status"], value=row["value"], wait=token)
        key = row["key"] if row is not None else named
        self._before_new(key)
        opening = Opening(key=key, kind=WaitKind.TOKEN, token=token, deadline=deadline)
        return self._suspension.wait(self, opening, open_wait=None)

    # -- children ------------------------------------------------------------------------------

    @loops.holding
    def trigger(self, name: str, request: Callable[[], Trigger]) -> Triggered:
        """Trigger a child that this run does not wait for, once over all entries."""
        key = self.journal.identify(f"trigger:{name}")
        if key in self.journal.children:
            run_id, task_id = self.journal.children[key]
            return Triggered(run_id=run_id, task_id=task_id, cached=True)
        self._before_new(key)
        triggered = self._fenced(partial(triggers.trigger, self.as_child(request(), key)))
        self.journal.children[key] = triggered.run_id, triggered.task_id
        return triggered

    @loops.holding
    def wait_for_runs(self, name: str, children: Callable[[], list[Trigger]]) -> list[Row]:
        """Trigger children and wait until all have ended; their rows, in order."""

        def opening(key: str) -> Opening:
            requests = [self.as_child(child, f"{key}[{n}]") for n, child in enumerate(children())]
            return Opening(key=key, kind=WaitKind.RUNS, name=name, children=requests)

        resolution = self.wait(f"runs:{name}", opening)
        ids = [UUID(run_id) for run_id in json.loads(resolution.value or "[]")]
        return patiently(partial(runs.results, ids))

    @loops.holding
    def emit(self, name: str, payload: str, *, external_id: str | None, deliver: events.Deadline = None) -> UUID:
        """Send an event; nothing is sent by a worker whose run is another's by now."""
        emit = partial(events.emit, name, payload, external_id=external_id, run_id=self.run_id, deliver=deliver)
        return self._fenced(emit).id

    def is_retry(self, request: Trigger) -> bool:
        """Whether a trigger is what `self.retry` sends: this run's own task once more."""
        return request.task_id == self.task_id and request.message.headers.get("retries", 0) > self._retries

    def retry_with(self, request: Trigger) -> None:
        """Keep what `self.retry` would send, for the end of this attempt."""
        delay = request.delay if isinstance(request.delay, timedelta) else request.delay and request.delay - clock.now()
        self.pending_retry = PendingRetry(message=request.message, delay=delay or timedelta())

    def as_child(self, request: Trigger, key: str) -> Trigger:
        """The request as one of this run's children."""
        return replace(request, parent=self.run_id, parent_key=key, root=self.root)

    def _fenced(self, write: Callable[[], T]) -> T:
        """What `write` returns, which is safe to repeat; nothing is written if the run is another's by now."""

        def once() -> T:
            with transaction.atomic():
                if not runs.holds(self.run_id, self.lease):
                    raise StaleRun(self.run_id, self.lease)
                return write()

        with self.while_held("a write"):
            return patiently(once)


def _end_of(claimed: Claimed) -> float | None:
    if not claimed.max_duration:
        return None
    return time.monotonic() + (claimed.max_duration - claimed.computed).total_seconds()


def enter(attempt: Attempt, body: Call) -> object:
    """Run the function with `attempt` as the current run."""
    with context.entered(attempt):
        return body()
