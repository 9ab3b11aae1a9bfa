"""`map`, `starmap` and `chunks` of a durable task: one run, in which the task is called for one item after another.

Celery calls the mapped task within a task of its own, `celery.map` or `celery.starmap`. Those two become durable
where what they call is, so that its steps and waits have a run to belong to; for plain tasks they stay Celery's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celery import Celery
from celery.app.task import Task

from workers.durable import DurableTask
from workers.options import TaskOptions
from workers.request import DurableRequest, combined_request, strategy
from workers.retry import RetryPolicy

_NAMES: Final = ("celery.map", "celery.starmap")


def install(app: Celery) -> None:
    """Have the app's maps know durable tasks; an app that is not complete has no maps yet."""
    if all(name in app._tasks for name in _NAMES):  # type: ignore[attr-defined]
        _convert(app)
    else:
        app.on_after_finalize.connect(lambda **_: _convert(app), weak=False)


def _convert(app: Celery) -> None:
    for name in _NAMES:
        task = app._tasks[name]  # type: ignore[attr-defined]
        if not isinstance(task, DurableMap):
            task.__class__ = _joined(type(task))
            task.__trace__ = None


def _joined(cls: Any) -> type:
    namespace = {
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "Request": combined_request(cls.Request, MapRequest),
        "Strategy": staticmethod(strategy(cls.Strategy)),
    }
    return type(cls.__name__, (DurableMap, cls), namespace)


def calls_durable(app: Celery, arguments: Mapping[str, Any]) -> bool:
    """Whether the task that a map with these arguments calls is durable."""
    mapped = arguments.get("task")
    return isinstance(mapped, Mapping) and isinstance(app.tasks.get(mapped.get("task", "")), DurableTask)


class MapRequest(DurableRequest):
    """The message of a map; of a plain task's it is Celery's request and nothing more."""

    @property
    def _mine(self) -> Any:
        durable = calls_durable(self.task.app, self.kwargs)
        return super() if durable else super(DurableRequest, self)

    def on_failure(self, *args: Any, **options: Any) -> Any:
        return self._mine.on_failure(*args, **options)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        self._mine.on_timeout(soft, timeout)

    def cancel(self, *args: Any, **options: Any) -> None:
        self._mine.cancel(*args, **options)

    def revoked(self) -> bool:
        return bool(self._mine.revoked())


class DurableMap(DurableTask[Any, Any]):
    """`celery.map` or `celery.starmap`. Failures are not retried, as they are not in Celery."""

    durable = TaskOptions(retry=RetryPolicy(max_attempts=1))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) if calls_durable(self.app, kwargs) else self.run(*args, **kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """A run if what it calls is durable, else Celery's message."""
        if calls_durable(self.app, kwargs or {}):
            return super().apply_async(args, kwargs, **options)
        return Task.apply_async(self, args, kwargs, **options)
