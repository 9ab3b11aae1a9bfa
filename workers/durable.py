"""The task class: Celery's, whose calls are runs.

`apply_async` accepts a run instead of sending a message; `__call__`, in a worker, claims and runs
it. Everything else is the task's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from celery.app.task import Task
from celery.result import AsyncResult

from workers import calls, context, journal
from workers.handle import RunHandle, RunResult
from workers.options import NAMES, TaskOptions, check_known
from workers.setup import require_setup
from workers.subscribing import On
from workers.tracer import Suspended, Tracer, adapted
from workers.triggering import Arguments, Triggering

if TYPE_CHECKING:
    from triggerapp.engine.triggers import Trigger, Triggered

P = ParamSpec("P")
R = TypeVar("R")


class DurableTask(Task, Generic[P, R]):  # type: ignore[type-arg]
    """A Celery task whose calls are durable runs."""

    durable: TaskOptions = TaskOptions()
    _tracer: Tracer | None = None

    if TYPE_CHECKING:

        def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]: ...

    @property
    def subscriptions(self) -> tuple[On, ...]:
        """The events that start it."""
        return self.durable.on

    # -- in a worker -----------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it: as a durable run where a worker calls, plainly where anybody else does."""
        request = self.request_stack.top
        if request is None or request.called_directly:
            return cast(R, self.call_body(*args, **kwargs))
        if context.inside():
            return cast(R, self._call_within_run(args, kwargs))
        from workers import executor  # noqa: PLC0415  (needs Django, which importing us must not)

        try:
            return cast(R, executor.execute(self, request, args=args, kwargs=kwargs))
        except Suspended as left:
            raise left.with_traceback(None)  # noqa: B904  (the same one, without the frames it came through)

    @property
    def __trace__(self) -> Tracer | None:
        """Celery's tracer of this task; a process of a worker's sets it."""
        return self._tracer

    @__trace__.setter
    def __trace__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer and adapted(tracer, self)

    def _call_within_run(self, args: Any, kwargs: Any) -> Any:
        """A call within an eager run is part of it; the keys of its steps are its own."""
        call = context.current(self.name).journal.identify(self.name)
        with journal.inside(call, is_step=False):
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
        """Have the app's workers start what durable runs need, and its maps call them as such."""
        super().on_bound(app)
        from workers import bootsteps, maps  # noqa: PLC0415  (both need the task class)

        bootsteps.install(app)
        maps.install(app)

    # -- triggering ------------------------------------------------------------------------------

    def trigger(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Accept a run and return at once. From then on it cannot be lost."""
        return self.with_options().trigger(*args, **kwargs)

    def trigger_and_wait(self, *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Within a run: trigger a child and wait for its end, holding no worker."""
        return self.with_options().trigger_and_wait(*args, **kwargs)

    def batch_trigger(self, batch: Iterable[Arguments]) -> list[RunHandle[R]]:
        """Accept a run for each tuple of arguments, all or none."""
        return self.with_options().batch_trigger(batch)

    def batch_trigger_and_wait(self, batch: Iterable[Arguments]) -> list[RunResult[R]]:
        """Within a run: a child for each tuple of arguments; wait for all, results in order."""
        return self.with_options().batch_trigger_and_wait(batch)

    def with_options(self, **options: Any) -> Triggering[P, R]:
        """The same verbs with options: ours (`delay`, `tags`, `idempotency_key`, …) and `apply_async`'s.

        Raises `TypeError` for an option that is neither. What only a router or a base class of yours knows goes to
        `apply_async`, which passes everything on.
        """
        check_known(self, options)
        return Triggering(task=self, options=options)

    def apply_async(  # type: ignore[override]
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, producer: Any = None, **options: Any
    ) -> Any:
        """Celery's call, accepted as a run; the message is sent after commit.

        Takes ours (`options.TriggerOptions`) beside all of Celery's options. Raises
        `DatabaseUnavailable` if nothing was accepted.
        """
        if self.app.conf.task_always_eager:
            require_setup()
            from triggerapp.engine import limits  # noqa: PLC0415  (needs Django)

            limits.check_options(options)
            plain = {name: value for name, value in options.items() if name not in NAMES}
            return super().apply_async(args, kwargs, task_id=task_id, **plain)
        return self.accept(args, kwargs, task_id=task_id, **options)[1]

    def accept(
        self, args: Any, kwargs: Any, *, task_id: str | None = None, **options: Any
    ) -> tuple[Triggered | None, AsyncResult[R]]:
        """Accept one run; None where `self.retry` only leaves word for the run that calls it."""
        require_setup()
        from triggerapp.engine import triggers  # noqa: PLC0415  (needs Django)

        made: list[tuple[Trigger, AsyncResult[R]]] = []

        def make() -> Trigger:
            if not made:
                made.append(self.request_for(args, kwargs, task_id=task_id, **options))
            return made[0][0]

        attempt = context.current_or_none("trigger") if context.inside() else None
        if attempt is not None and task_id == attempt.task_id and attempt.is_retry(make()):
            attempt.retry_with(make())
            return None, made[0][1]
        # In a run made only if the journal has no answer: Celery's signals and trail would hear of a call that is none.
        triggered = triggers.trigger(make()) if attempt is None else attempt.trigger(self.name, make)
        if attempt is None and triggered.cached and task_id is not None:
            triggered = calls.once_more(make(), triggered)
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
        calls.check_types(task_id, options)
        run_id = calls.as_uuid(task_id) or new_id()
        delay = calls.delay_of(self, ours.pop("delay", None), options)
        calls.check_expires(options.get("expires"))
        if ours.get("ttl") is not None:
            options["expires"] = calls.expires_of(ours["ttl"])

        def send(**extra: Any) -> AsyncResult[R]:
            sent: AsyncResult[R] = super(DurableTask, self).apply_async(
                args, kwargs, task_id=task_id or str(run_id), **{**options, **extra}
            )
            return sent

        message, result = dispatch.capture(self.app, send)
        limits.check_priority(message.properties.get("priority"))
        if delay is not None:
            message.headers["eta"] = calls.eta_of(delay)
        request = calls.request_of(self, message, task_id=result.id, run_id=run_id, delay=delay, ours=ours)
        return request, result
