"""Triggering a task with options, alone or in batches, waited for or not.

Under `task_always_eager` children run in place, as Celery's do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from triggerapp.errors import BadType
from workers import codec, context
from workers.errors import NotInRun
from workers.handle import RunHandle, RunResult, result_of

if TYPE_CHECKING:
    from triggerapp.engine.triggers import Trigger
    from workers.durable import DurableTask

P = ParamSpec("P")
R = TypeVar("R")
Arguments = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggering(Generic[P, R]):
    """A task with trigger options."""

    task: DurableTask[P, R]
    options: dict[str, Any] = field(default_factory=dict)

    def trigger(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Accept a run and return at once."""
        if self.task.app.conf.task_always_eager:
            return _eager_handle(self.task.apply(args, kwargs))
        triggered, result = self.task.accept(args, kwargs, **self.options)
        assert triggered is not None
        return RunHandle(id=str(triggered.run_id), task_id=result.id, is_cached=triggered.cached)

    def batch_trigger(self, calls: Iterable[Arguments]) -> list[RunHandle[R]]:
        """Accept a run for each tuple of arguments, all or none."""
        from triggerapp.engine import triggers  # noqa: PLC0415  (needs Django)

        items = _items("batch_trigger", calls)
        if context.inside() or self.task.app.conf.task_always_eager:
            return [self.trigger(*item) for item in items]  # type: ignore[call-arg]
        triggered = triggers.trigger_many([self._request(item, {}) for item in items])
        return [RunHandle(id=str(run.run_id), task_id=run.task_id, is_cached=run.cached) for run in triggered]

    def trigger_and_wait(self, *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Within a run: trigger a child and wait for its end."""
        (result,) = self._wait_for([(args, kwargs)], "trigger_and_wait")
        return result

    def batch_trigger_and_wait(self, calls: Iterable[Arguments]) -> list[RunResult[R]]:
        """Within a run: a child for each tuple of arguments; wait for all, results in order."""
        verb = "batch_trigger_and_wait"
        return self._wait_for([(item, {}) for item in _items(verb, calls)], verb)

    def _wait_for(self, calls: list[tuple[Any, Mapping[str, Any]]], verb: str) -> list[RunResult[R]]:
        attempt = context.current_or_none(verb)
        if attempt is None:
            raise NotInRun(verb)
        if not calls:
            return []
        if self.task.app.conf.task_always_eager:
            return [_eager_result(self.task, args, kwargs) for args, kwargs in calls]
        children = lambda: [self._request(args, kwargs) for args, kwargs in calls]  # noqa: E731
        return [cast("RunResult[R]", result_of(row)) for row in attempt.wait_for_runs(self.task.name, children)]

    def _request(self, args: Any, kwargs: Any) -> Trigger:
        return self.task.request_for(args, dict(kwargs), **self.options)[0]


def _items(verb: str, calls: Iterable[Arguments]) -> list[tuple[Any, ...]]:
    """The positional arguments of each call. A text is a sequence too, but nobody means its characters."""
    if not isinstance(calls, Iterable):
        raise BadType(f"{verb} takes tuples of positional arguments, as in {verb}([({calls!r:.80},)])")
    found = list(calls)
    for number, call in enumerate(found):
        if isinstance(call, str | bytes) or not isinstance(call, Sequence):
            raise BadType(
                f"item {number} of {verb} is {call!r:.80}: an item is a tuple of one call's positional arguments, "
                f"as in {verb}([({call!r:.80},)])"
            )
    return list(map(tuple, found))


def _eager_handle(result: Any) -> RunHandle[Any]:
    from triggerapp.models import Run  # noqa: PLC0415  (needs Django)

    run = Run.objects.filter(task_id=result.id).order_by("-nesting").only("id").first()
    return RunHandle(id=str(run.id if run else result.id), task_id=result.id)


def _eager_result(task: DurableTask[Any, Any], args: Any, kwargs: Any) -> RunResult[Any]:
    """A child's end. Its call is part of the parent's run, as every call within an eager run is."""
    result = task.apply(args, kwargs, throw=False)
    if result.successful():
        return RunResult(id=result.id, task=task.name, ok=True, output=result.result)
    return RunResult(id=result.id, task=task.name, ok=False, error=codec.dump_error(cast(Exception, result.result)))
