"""In a sentence: what a status means, and what happens next and when."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from triggerapp import conf
from triggerapp.dashboard.queries import RunRow
from triggerapp.models import Status, Wait, WaitKind
from triggerapp.templatetags.triggers import duration

MEANS: Mapping[Status, str] = MappingProxyType(
    {
        Status.PENDING: "Accepted; not yet due, or not yet admitted by its queue.",
        Status.QUEUED: "A message asks the workers of its queue to take it.",
        Status.RUNNING: "A worker runs it.",
        Status.WAITING: "Suspended at a wait; it holds no worker.",
        Status.COMPLETED: "It returned a value.",
        Status.FAILED: "It raised an error, and no attempts are left.",
        Status.CRASHED: "Its workers died too often while it ran.",
        Status.TIMED_OUT: "It ran longer than its limit.",
        Status.CANCELED: "A person or a program stopped it.",
        Status.EXPIRED: "Its time to live ended before it started.",
    }
)


def next_of(run: RunRow, *, paused: bool = False, rolled_back: bool = False) -> str:
    """What happens next, and when."""
    match run.status:
        case Status.PENDING:
            return _pending(run, paused)
        case Status.QUEUED:
            again = conf.get().RESEND_AFTER.total_seconds()
            return f"The next free worker of queue {run.queue} takes it; its message is sent again after {again:g} s."
        case Status.RUNNING:
            lease = conf.get().LEASE.total_seconds()
            return f"If its worker is silent for {lease:g} s, another takes the run over at its last recorded step."
        case Status.WAITING:
            return "It goes on as soon as its wait is over." if run.wait is None else waits_for(run.wait)
        case Status.FAILED | Status.CRASHED | Status.TIMED_OUT if rolled_back:
            return "What it had done is rolled back, so there is no step to go on from: replay it from the beginning."
        case Status.FAILED | Status.CRASHED | Status.TIMED_OUT:
            return "Nothing happens by itself: retry it from the step that failed, or replay it from the beginning."
        case _:
            return "Nothing more happens; it can be replayed as a new run."


def _pending(run: RunRow, paused: bool) -> str:
    if paused:
        return f"Queue {run.queue} is paused: it starts when the queue is resumed."
    what = f"Attempt {run.attempt}" if run.attempt > 1 else "It"
    if run.due_at is None or run.due_at <= run.now:
        return f"{what} starts as soon as queue {run.queue} admits it."
    # The moment: a page that counted on from "in 1 s" would come to say that it is due 1 s ago.
    return f"{what} is due in {duration(run.due_at - run.now)}, at {run.due_at:%Y-%m-%d %H:%M:%S} UTC."


def waits_for(wait: Wait) -> str:
    """What resolves a wait, and until when."""
    match wait.kind:
        case WaitKind.TIMER:
            return "It goes on when its time has come."
        case WaitKind.EVENT:
            what = f"It goes on with the event {wait.name}"
        case WaitKind.TOKEN:
            what = "It goes on when its token is completed"
        case _:
            what = f"It goes on when {wait.remaining or 0} more of its children have ended"
    return f"{what}, or with a timeout at its deadline." if wait.expires_at else f"{what}; it has no deadline."
