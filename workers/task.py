"""`@durable_task` and the task class behind it.

The decorator stands over a function, as `@shared_task` does, or on top of an existing task. Either
way Celery makes the task, and its class is then joined with `DurableTask`: name, options, base
class, call sites and registry stay as they are. Deleting the decorator undoes it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from celery import Celery, _state, shared_task
from celery.app.task import Task
from celery.local import PromiseProxy, Proxy

from workers.durable import DurableTask
from workers.options import Deadline, TaskOptions, TriggerOptions
from workers.request import combined_request, strategy
from workers.retry import RetryPolicy
from workers.subscribing import On, listed

P = ParamSpec("P")
R = TypeVar("R")


@overload
def durable_task(fn: Task[P, R], /) -> DurableTask[P, R]: ...


@overload
def durable_task(fn: Callable[P, R], /) -> DurableTask[P, R]: ...


@overload
def durable_task(
    *,
    bind: Literal[True],
    retry: RetryPolicy | None = ...,
    max_duration: timedelta | None = ...,
    ttl: Deadline | None = ...,
    checkpoint: bool | None = ...,
    on: On | Sequence[On] | None = ...,
    **options: Any,
) -> Callable[[Callable[Concatenate[Any, P], R]], DurableTask[P, R]]: ...


@overload
def durable_task(
    *,
    retry: RetryPolicy | None = ...,
    max_duration: timedelta | None = ...,
    ttl: Deadline | None = ...,
    checkpoint: bool | None = ...,
    on: On | Sequence[On] | None = ...,
    **options: Any,
) -> Callable[[Callable[P, R]], DurableTask[P, R]]: ...


def durable_task(
    fn: Any = None,
    /,
    *,
    retry: RetryPolicy | None = None,
    max_duration: timedelta | None = None,
    ttl: Deadline | None = None,
    checkpoint: bool | None = None,
    on: On | Sequence[On] | None = None,
    **options: Any,
) -> Any:
    """Make a task durable: over a function (as `@shared_task`), or on top of an existing task.

    `retry` says how often a failed run is tried; `max_duration` bounds the time it computes in one
    attempt, waits excluded; `ttl` is how long it may wait to be started; `checkpoint=False` keeps no
    image of its process while it waits, `True` has every run begin in a process of its own. `on` says
    which events start it: `events.on(name, filter=…)`, `webhook(endpoint, type)`, or several. All other
    options are Celery's and pass through; on top of an existing task they belong to that task's own
    decorator.
    """
    _require("retry", retry, RetryPolicy, "RetryPolicy(max_attempts=5)")
    _require("max_duration", max_duration, timedelta, "timedelta(minutes=5)")
    _require("checkpoint", checkpoint, bool, "True or False")
    own = TaskOptions(retry=retry, defaults=_defaults(max_duration, ttl), checkpoint=checkpoint, on=listed(on))

    def decorate(target: Any) -> Any:
        if isinstance(target, Proxy | Task):
            _refuse_options(options)
            return _convert_later(target, own)
        return _convert_later(shared_task(**options)(target), own)

    if fn is None:
        return decorate
    if not callable(fn):
        raise TypeError(f"durable_task({fn!r:.80}): it stands over a function or a task; its options have names")
    return decorate(fn)


def _defaults(max_duration: timedelta | None, ttl: Deadline | None) -> TriggerOptions:
    defaults = TriggerOptions()
    if max_duration is not None:
        defaults["max_duration"] = max_duration
    if ttl is not None:
        defaults["ttl"] = ttl
    return defaults


def _require(name: str, given: object, kind: type, example: str) -> None:
    if given is not None and not isinstance(given, kind):
        raise TypeError(f"durable_task({name}={given!r}): it takes a {kind.__name__}, such as {example}")


def _refuse_options(options: dict[str, Any]) -> None:
    if options:
        raise TypeError(
            f"the task is a Celery task already: give {', '.join(options)} to its own decorator, below this one"
        )


def _convert_later(task: Any, own: TaskOptions) -> Any:
    """Convert now where the app is complete, else as soon as it is: touching a proxy would complete it too early."""
    if not isinstance(task, Proxy):
        convert(task, own)
        return task
    if isinstance(task, PromiseProxy):  # of `app.task`: its first user makes the task, often before the app is complete
        task.__then__(lambda: convert(task._get_current_object(), own))
        return task
    for app in list(_state._get_active_apps()):  # type: ignore[attr-defined]
        if app.finalized:
            _convert_in(app, task, own)
    _state.connect_on_app_finalize(
        lambda app: app.on_after_finalize.connect(lambda **_: _convert_in(app, task, own), weak=False)
    )
    return task


def _convert_in(app: Celery, proxy: Any, own: TaskOptions) -> None:
    with _as_current(app):
        task = proxy._get_current_object()
    if task.app is app:
        convert(task, own)


class _as_current:
    """A shared task's proxy answers with the current app's task."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def __enter__(self) -> None:
        self.before = getattr(_state._tls, "current_app", None)  # type: ignore[attr-defined]
        _state._tls.current_app = self.app  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        _state._tls.current_app = self.before  # type: ignore[attr-defined]


def convert(task: Task[Any, Any], own: TaskOptions) -> None:
    """Join the task's class with `DurableTask`, and its request class and strategy with ours."""
    cls = type(task)
    if not isinstance(task, DurableTask):
        namespace = {
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "__qualname__": cls.__qualname__,
            "Request": combined_request(cls.Request),
            "Strategy": staticmethod(strategy(cls.Strategy)),
        }
        task.__class__ = type(str(cls.__name__), (DurableTask, cls), namespace)
    task.durable = own  # type: ignore[attr-defined]
    task.__trace__ = None
    task.on_bound(task.app)
