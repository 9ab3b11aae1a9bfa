"""Steps: calls made once and recorded; and rollbacks, which undo them.

Outside of a run both are plain calls, so that decorated code can be used and tested anywhere.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from triggerapp.errors import BadType
from workers import context
from workers.retry import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")


@overload
def step(fn: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(
    fn: Callable[..., R],
    /,
    *args: Any,
    key: str | None = ...,
    retry: RetryPolicy | None = ...,
    rollback: Callable[..., Any] | None = ...,
    **kwargs: Any,
) -> R: ...


def step(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `fn(*args, **kwargs)` once in this run and record what it returns or raises.

    `key` names the call where its order may change (threads, loops over sets); `retry` tries it again
    in place; `rollback` is called with the same arguments if the run fails later. The value must be
    JSON with dataclasses, datetimes, UUIDs, Decimals, bytes or pydantic models: else `TypeError`.

    As a decorator (`@step`) it makes every call of the function a step. `step(fn)` alone is a call
    within a run, if `fn` needs no arguments, and a decoration elsewhere; type checkers see a decoration,
    so give a call without arguments its `key`.
    """
    _check_callable("step", fn)
    if not args and not kwargs and not (context.inside() and _needs_nothing(fn)):
        return decorate(fn)
    return call(fn, *args, **kwargs)


def _check_callable(what: str, fn: object) -> None:
    """`step(charge(order))` has made the call already: its value is no step."""
    if not callable(fn):
        raise BadType(f"{what} takes a function and its arguments, as in {what}(fn, order): {fn!r:.80} is no function")


def _needs_nothing(fn: Callable[..., Any]) -> bool:
    try:
        inspect.signature(fn).bind()
    except TypeError:
        return False
    except ValueError:  # a builtin that says nothing of its arguments, such as `time.time`: nobody decorates it
        return True
    return True


def call(
    fn: Callable[..., R],
    /,
    *args: Any,
    key: str | None = None,
    retry: RetryPolicy | None = None,
    rollback: Callable[..., Any] | None = None,
    **kwargs: Any,
) -> R:
    """`step`, never as a decorator."""
    if rollback is not None:
        _check_callable("rollback", rollback)
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"step(retry={retry!r}): it takes a RetryPolicy, such as RetryPolicy(max_attempts=5)")
    attempt = context.current_or_none(f"step {getattr(fn, '__name__', fn)}")
    if attempt is None:
        return fn(*args, **kwargs)
    result: R = attempt.step(fn, args, kwargs, key=key, retry=retry, rollback=rollback)
    return result


def decorate(fn: Callable[P, R]) -> Callable[P, R]:
    """Make each call of `fn` a step."""

    @functools.wraps(fn)
    def stepped(*args: P.args, **kwargs: P.kwargs) -> R:
        attempt = context.current_or_none(f"step {getattr(fn, '__name__', fn)}")
        if attempt is None:
            return fn(*args, **kwargs)
        result: R = attempt.step(fn, args, kwargs)
        return result

    return stepped


def rollback(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
    """Have `fn(*args, **kwargs)` called if the run fails after this line; rollbacks run newest first.

    Raises `NotInRun` outside of runs.
    """
    _check_callable("rollback", fn)
    context.current("rollback").rollback(fn, args, kwargs)
