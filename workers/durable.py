"""The task class: Celery's, whose calls are runs.

`apply_async` accepts a run instead of sending a message; `__call__`, in a worker, claims and runs
it. Everything else is the task's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast
from uuid import UUID

from celery.app.task import Task
from celery.result import AsyncResult
from celery.utils.time import maybe_iso8601

from workers import context, journal
from workers.errors import NotInRun
from workers.handle import RunHandle, RunResult, result_of
from workers.options import NAMES, TaskOptions

if TYPE_CHECKING:
    from triggerapp.engine.dispatch import Message
    from triggerapp.engine.triggers import Trigger, Triggered

P = ParamSpec("P")
R = TypeVar("R")
Arguments = Sequence[Any]


class DurableTask(Task, Generic[P, R]):  # type: ignore[type-arg]
    """A Celery task whose calls are durable runs."""

    durable: TaskOptions = TaskOptions()

    if TYPE_CHECKING:

        def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]: ...

    # -- in a worker -----------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it: as a durable run where a worker calls, plainly where anybody else does."""
        request = self.request_stack.top
        if request is None or request.called_directly:
            return cast(R, self.call_body(*args, **kwargs))
        if context.inside():
            return cast(R, self._call_within_run(args, kwargs))
        from workers import executor  # noqa: PLC0415  (needs Django, which importing us must not)

        return cast(R, executor.execute(self, request, args, kwargs))

    def _call_within_run(self, args: Any, kwargs: Any) -> Any:
        """A call within an eager run is part of it; the keys of its steps are its own."""
        call = context.current(self.name).journal.identify(self.name)
        with journal.inside(call):
            return self.call_body(*args, **kwargs)

    def call_body(self, *args: Any, **kwargs: Any) -> Any:
        """The user's function, through the `__call__` of the user's base class if it has one."""
        inherited = next(
            cls
            for cls in type(self).__mro__
            if cls is not DurableTask and "__call__" in cls.__dict__ and not issubclass(cls, DurableTask)
        )
        if inherited is Task:
            return self.run(*args, **kwargs)
        return inherited.__call__(self, *args, **kwargs)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called by Celery in each segment; the executor calls the user's hook once per attempt."""

    def user_before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """The hook of the class that this one was joined with."""
        super().before_start(task_id, args, kwargs)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Have the app's workers start what durable runs need."""
        super().on_bound(app)
        from workers import bootsteps  # noqa: PLC0415  (bootsteps need the task class)

        bootsteps.install(app)

    # -- triggering ------------------------------------------------------------------------------

    def trigger(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Accept a run and return at once. From then on it cannot be lost."""
        return self.with_options().trigger(*args, **kwargs)

    def trigger_and_wait(self, *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Within a run: trigger a child and wait for its end, holding no worker."""
        return self.with_options().trigger_and_wait(*args, **kwargs)

    def batch_trigger(self, calls: Iterable[Arguments]) -> list[RunHandle[R]]:
        """Accept a run for each tuple of arguments, all or none."""
        return self.with_options().batch_trigger(calls)

    def batch_trigger_and_wait(self, calls: Iterable[Arguments]) -> list[RunResult[R]]:
        """Within a run: a child for each tuple of arguments; wait for all, results in order."""
        return self.with_options().batch_trigger_and_wait(calls)

    def with_options(self, **options: Any) -> Triggering[P, R]:
        """The same verbs with options: ours (`delay`, `tags`, `idempotency_key`, …) and `apply_async`'s."""
        return Triggering(task=self, options=options)

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, producer: Any = None, **options: Any
    ) -> Any:
        """Celery's call, accepted as a run; the message is sent after commit.

        Takes ours (`options.TriggerOptions`) beside all of Celery's options. Raises
        `DatabaseUnavailable` if nothing was accepted.
        """
        if self.app.conf.task_always_eager:
            plain = {name: value for name, value in options.items() if name not in NAMES}
            return super().apply_async(args, kwargs, task_id=task_id, **plain)
        return self.accept(args, kwargs, task_id=task_id, **options)[1]

    def accept(
        self, args: Any, kwargs: Any, *, task_id: str | None = None, **options: Any
    ) -> tuple[Triggered | None, AsyncResult[R]]:
        """Accept one run; None where `self.retry` only leaves word for the run that calls it."""
        from triggerapp.engine import triggers  # noqa: PLC0415  (needs Django)

        made: list[tuple[Trigger, AsyncResult[R]]] = []

        def make() -> Trigger:
            if not made:
                made.append(self.request_for(args, kwargs, task_id=task_id, **options))
            return made[0][0]

        attempt = context.current_or_none("trigger") if context.inside() else None
        if attempt is None:
            triggered = triggers.trigger(make())
            if triggered.cached and task_id is not None:
                triggered = _once_more(make(), triggered)
        elif task_id == attempt.task_id and attempt.is_retry(make()):
            attempt.retry_with(make())
            return None, made[0][1]
        else:
            # Made only if the journal has no answer: Celery's signals and trail would hear of a call that is none.
            triggered = attempt.trigger(self.name, make)
        result = made[0][1] if made else self._trailed(triggered.task_id)
        result.id = triggered.task_id  # not a new object: this one is in the calling task's trail
        return triggered, result

    def _trailed(self, task_id: str) -> AsyncResult[R]:
        """The result of a child from before this run was entered again; its parent's child once more."""
        result: AsyncResult[R] = self.AsyncResult(task_id)
        parent = self.app.current_worker_task
        if parent is not None:
            parent.add_trail(result)
        return result

    def request_for(
        self, args: Any, kwargs: Any, *, task_id: str | None = None, **options: Any
    ) -> tuple[Trigger, AsyncResult[R]]:
        """The run that a call stands for, and Celery's result object. Nothing is accepted yet."""
        from triggerapp.engine import dispatch, limits  # noqa: PLC0415  (needs Django)
        from triggerapp.models.runs import new_id  # noqa: PLC0415

        ours = {**self.durable.defaults, **{name: options.pop(name) for name in NAMES & options.keys()}}
        for name in ("delay", "ttl"):
            limits.check_deadline(name, ours.get(name))
        run_id = _as_uuid(task_id) or new_id()
        delay = _delay(self, ours.pop("delay", None), options)
        if ours.get("ttl") is not None:
            options["expires"] = _expires(ours["ttl"])

        def send(**extra: Any) -> AsyncResult[R]:
            sent: AsyncResult[R] = super(DurableTask, self).apply_async(
                args, kwargs, task_id=task_id or str(run_id), **{**options, **extra}
            )
            return sent

        message, result = dispatch.capture(self.app, send)
        if delay is not None:
            message.headers["eta"] = _eta(delay)
        return _request(self, message, result.id, run_id, delay, ours), result


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

        if context.inside() or self.task.app.conf.task_always_eager:
            return [self.trigger(*call) for call in calls]  # type: ignore[call-arg]
        triggered = triggers.trigger_many(self._requests(calls))
        return [RunHandle(id=str(run.run_id), task_id=run.task_id, is_cached=run.cached) for run in triggered]

    def trigger_and_wait(self, *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Within a run: trigger a child and wait for its end."""
        (result,) = self._wait_for([(args, kwargs)], "trigger_and_wait")
        return result

    def batch_trigger_and_wait(self, calls: Iterable[Arguments]) -> list[RunResult[R]]:
        """Within a run: a child for each tuple of arguments; wait for all, results in order."""
        return self._wait_for([(tuple(call), {}) for call in calls], "batch_trigger_and_wait")

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

    def _requests(self, calls: Iterable[Arguments]) -> list[Trigger]:
        return [self._request(tuple(call), {}) for call in calls]

    def _request(self, args: Any, kwargs: Any) -> Trigger:
        return self.task.request_for(args, dict(kwargs), **self.options)[0]


def _request(
    task: DurableTask[Any, Any], message: Message, task_id: str, run_id: UUID, delay: Any, ours: Mapping[str, Any]
) -> Trigger:
    from triggerapp.engine.triggers import Trigger  # noqa: PLC0415  (needs Django)
    from triggerapp.models.runs import new_id  # noqa: PLC0415

    fields = {name: ours[name] for name in ours.keys() - {"idempotency_key", "idempotency_scope", "ttl"}}
    nesting = message.headers.get("replaced_task_nesting") or 0
    return Trigger(
        task=task.name,
        message=message,
        queue=message.routing_key or message.exchange,
        run_id=new_id() if nesting else run_id,  # `replace` uses the task id of a run that has it as its own id
        task_id=task_id,
        nesting=nesting,
        delay=delay,
        ttl=ours.get("ttl") or _ttl(message),
        idempotency_key=_scoped(ours.get("idempotency_key"), ours.get("idempotency_scope")),
        **fields,
    )


def _once_more(request: Trigger, known: Triggered) -> Triggered:
    """A task id whose run is over is another run, as in Celery; while that run lives they are one."""
    from triggerapp.engine import triggers  # noqa: PLC0415  (needs Django)
    from triggerapp.models import FINAL, Run  # noqa: PLC0415
    from triggerapp.models.runs import new_id  # noqa: PLC0415

    last = Run.objects.filter(task_id=request.task_id).order_by("-nesting").only("nesting", "status").first()
    if last is None or last.status not in FINAL or request.idempotency_key is not None:
        return known
    nesting = last.nesting + 1
    request.message.headers["replaced_task_nesting"] = nesting  # where `replace` counts on from
    return triggers.trigger(replace(request, run_id=new_id(), nesting=nesting))


def _as_uuid(task_id: str | None) -> UUID | None:
    try:
        return UUID(task_id) if task_id else None
    except ValueError:
        return None


def _delay(task: DurableTask[Any, Any], delay: Any, options: dict[str, Any]) -> timedelta | datetime | None:
    """Celery's `countdown` and `eta` as our delay: a broker is no place to wait in."""
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    if delay is not None:
        return cast(timedelta, delay)
    if countdown is not None:
        return timedelta(seconds=countdown) if countdown > 0 else None
    if eta is None:
        return None
    moment = cast(datetime, maybe_iso8601(eta))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=task.app.timezone)


def _eta(delay: timedelta | datetime) -> str:
    from django.utils import timezone  # noqa: PLC0415  (needs Django)

    return (timezone.now() + delay if isinstance(delay, timedelta) else delay).isoformat()


def _expires(ttl: timedelta | datetime) -> float | datetime:
    return ttl.total_seconds() if isinstance(ttl, timedelta) else ttl


def _ttl(message: Message) -> datetime | None:
    expires = message.headers.get("expires")
    return None if expires is None else cast(datetime, maybe_iso8601(expires))


def _scoped(key: str | None, scope: str | None) -> str | None:
    """Within a run a key is the run's own unless its scope says otherwise."""
    if key is None:
        return None
    if scope not in (None, "run", "attempt", "global"):
        raise ValueError(f"idempotency_scope is 'run', 'attempt' or 'global', not {scope!r}")
    attempt = context.current_or_none("trigger") if context.inside() else None
    if attempt is None or scope == "global":
        return key
    number = f":{attempt.number}" if scope == "attempt" else ""
    return hashlib.sha256(f"{attempt.run_id}{number}:{key}".encode()).hexdigest()


def _eager_handle(result: Any) -> RunHandle[Any]:
    from triggerapp.models import Run  # noqa: PLC0415  (needs Django)

    run = Run.objects.filter(task_id=result.id).order_by("-nesting").only("id").first()
    return RunHandle(id=str(run.id if run else result.id), task_id=result.id)


def _eager_result(task: DurableTask[Any, Any], args: Any, kwargs: Any) -> RunResult[Any]:
    """A child's end. Its call is part of the parent's run, as every call within an eager run is."""
    from workers import codec  # noqa: PLC0415  (needs Django)

    result = task.apply(args, kwargs, throw=False)
    if result.successful():
        return RunResult(id=result.id, task=task.name, ok=True, output=result.result)
    return RunResult(id=result.id, task=task.name, ok=False, error=codec.dump_error(cast(Exception, result.result)))
