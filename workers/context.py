"""The run in progress: which attempt the code that calls `step` or `wait` belongs to.

A context variable; a thread that user code starts does not inherit it. Where a pool process has
exactly one run, such a thread belongs to it; where it has several, guessing would be wrong. A thread
of the pool that is at work on another task, a plain one, belongs to no run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from celery._state import get_current_task

from workers.errors import NotInRun, RunContextLost

if TYPE_CHECKING:
    from workers.attempt import Attempt

_current: ContextVar[Attempt | None] = ContextVar("triggerapp_attempt", default=None)
_active: list[Attempt] = []


def current_or_none(what: str) -> Attempt | None:
    """The attempt that calls `what`; None outside of runs. Raises `RunContextLost` where it cannot be told."""
    found = _current.get()
    if found is not None or not _active or get_current_task() is not None:
        return found
    if len(_active) > 1:
        raise RunContextLost(what)
    return _active[0]


def current(what: str) -> Attempt:
    """The attempt that calls `what`. Raises `NotInRun` outside of runs."""
    found = current_or_none(what)
    if found is None:
        raise NotInRun(what)
    return found


def speaker() -> Attempt | None:
    """The attempt that this code belongs to; None outside of runs, and where it cannot be told."""
    if not _active:
        return None
    if _current.get() is None and threading.current_thread() is threading.main_thread():
        return None  # a pool of threads is fed by it: what it says of other tasks is no line of the one that runs
    try:
        return current_or_none("a line")
    except RunContextLost:
        return None


def the_only_one() -> Attempt | None:
    """The attempt that this process runs, whatever code asks; None if it runs none, or several."""
    return _active[0] if len(_active) == 1 else None


def inside() -> bool:
    """Whether this code, in this context, runs within a run."""
    return _current.get() is not None


@contextmanager
def entered(attempt: Attempt) -> Iterator[None]:
    """Make `attempt` the current one for the code within."""
    token = _current.set(attempt)
    if not attempt.is_eager:  # an eager run lives in a process of the user's, whose other threads are not its own
        _active.append(attempt)
    try:
        yield
    finally:
        if not attempt.is_eager:
            _active.remove(attempt)
        _current.reset(token)
