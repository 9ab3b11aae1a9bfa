"""Coroutines in runs: a task or a step may be `async def`, and gets a loop of its own.

What is durable is called as everywhere, without `await`: it holds the loop meanwhile, as the run as a whole waits.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from workers.errors import Suspend

P = ParamSpec("P")
R = TypeVar("R")


def finished(value: object) -> object:
    """What a call has returned; of a coroutine what it comes to."""
    if not inspect.iscoroutine(value):
        return value
    try:
        return asyncio.run(value)
    except BaseExceptionGroup as group:  # of a TaskGroup of the user's, in which one has left the function
        left = group.subgroup(Suspend)
        if left is None:
            raise
        raise _first(left) from group


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def outside() -> Iterator[None]:
    """Leave the running loop, if there is one: it stands still, so that Django need not refuse to be called in it."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


def holding(fn: Callable[P, R]) -> Callable[P, R]:
    """Make it a function that may be called within a running loop, and holds it."""

    @functools.wraps(fn)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        if asyncio._get_running_loop() is None:
            return fn(*args, **kwargs)
        with outside():
            return fn(*args, **kwargs)

    return held
