"""Which tasks are light: short, and never waiting. Their runs stay in the pool process, where they cost less.

A process of its own costs a run some milliseconds of processor: much for one that does nothing, nothing for one that
computes or waits. Which of both a task is shows when it runs, so every task begins with processes of its own.

A run that waits although its task was light is entered again after that wait, as without checkpoints, and its task is
light no more. So that this is rare, a task in whose code a wait can be seen is never light. A step that is tried again
and a worker that shuts down say nothing of a task: they come and go with the weather.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from triggerapp import conf
from triggerapp.engine.runs import Claimed
from workers import journal
from workers.tracer import Suspended

log = logging.getLogger(__name__)

SHORT: Final = 1.0
"""Seconds. For a longer run a process of its own is next to nothing, and a worker that shuts down has it move out."""
IN_A_ROW: Final = 20
"""So many runs of a task, one after another in one pool process, must have been short and without a wait."""

_VERBS: Final = {"wait", "trigger_and_wait", "batch_trigger_and_wait"}
_WAITS: Final = "workers.wait"
_NEVER: Final = -1

_short: dict[str, int] = {}
"""By task: its short runs since the last long one, or that it waits."""
_seen_to_wait: dict[str, bool] = {}
"""By task, because not every callable can be the key of a cache."""


@contextmanager
def judged(task: Any, claimed: Claimed) -> Iterator[bool]:
    """Whether this run stays in the pool process; how it goes tells of those after it."""
    started, waits = time.monotonic(), any(_is_its_own(wait["key"]) for wait in claimed.waits)
    try:
        yield _stays(task, claimed)
    except Suspended as left:
        waits = waits or _is_its_own(left.at)
        raise
    finally:
        _learn(task.name, is_short=time.monotonic() - started < SHORT, waits=waits)


def _is_its_own(wait: str | None) -> bool:
    return wait is not None and not journal.is_pause(wait)


def _stays(task: Any, claimed: Claimed) -> bool:
    wanted = task.durable.checkpoint
    if wanted is not None:
        return not wanted
    if claimed.again or conf.get().CHECKPOINT == "on":
        return False
    return _short.get(task.name, 0) >= IN_A_ROW and not _is_seen_to_wait(task)


def _learn(name: str, *, is_short: bool, waits: bool) -> None:
    before = _short.get(name, 0)
    if waits or before == _NEVER:
        _short[name] = _NEVER
    else:
        _short[name] = before + 1 if is_short else 0


# -- what can be seen in its code ------------------------------------------------------------------


def _is_seen_to_wait(task: Any) -> bool:
    """Looked at once. The run is claimed by now, so code that cannot be looked at must not end it: it may wait."""
    if task.name not in _seen_to_wait:
        try:
            _seen_to_wait[task.name] = is_seen_to_wait(task.run)
        except Exception as problem:  # noqa: BLE001  (whatever code it is, and whoever wrote it)
            log.warning("the runs of %s have processes of their own: its code cannot be read (%r)", task.name, problem)
            _seen_to_wait[task.name] = True
    return _seen_to_wait[task.name]


def is_seen_to_wait(function: Any) -> bool:
    """Whether the function, or one of the same package that it reaches by names, names a wait."""
    return any(map(_names_a_wait, _reached(function)))


def _names_a_wait(function: FunctionType) -> bool:
    if any(not _VERBS.isdisjoint(code.co_names) for code in _codes(function.__code__)):
        return True
    return any(_is_wait(value) for value in _used(function))


def _is_wait(value: object) -> bool:
    """Asked of the type alone: what has a global name may be a proxy, which acts on being looked at."""
    if type(value) is ModuleType:
        return value.__name__ == _WAITS
    return type(value) is FunctionType and value.__module__ == _WAITS


def _reached(value: object) -> Iterator[FunctionType]:
    """The functions of it and of what it uses, and so on, within one package."""
    todo, seen = [value], set[FunctionType]()
    package = None
    while todo:
        for function in _functions(todo.pop()):
            package = package or _package(function)
            if function not in seen and _package(function) == package:
                seen.add(function)
                todo += _used(function)
                yield function


def _functions(value: object) -> Iterator[FunctionType]:
    """A function itself; of a class its methods; of a method also the others of its object."""
    if type(value) is FunctionType:
        yield value
    elif type(value) is MethodType:
        yield from _functions(value.__func__)
        yield from _functions(type(value.__self__))
    elif issubclass(type(value), type):
        for cls in type.mro(value):  # type: ignore[arg-type]
            yield from (each for each in vars(cls).values() if type(each) is FunctionType)


def _used(function: FunctionType) -> Iterator[object]:
    """What it names, closes over or wraps."""
    for code in _codes(function.__code__):
        yield from (function.__globals__.get(name) for name in code.co_names)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty one
            yield cell.cell_contents
    yield vars(function).get("__wrapped__")


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and what is defined in it."""
    yield code
    for each in code.co_consts:
        if type(each) is CodeType:
            yield from _codes(each)


def _package(function: FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]
