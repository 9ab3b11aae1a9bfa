"""The tasks of the acceptance tests. Each is suspended in its middle: `pause` is how long."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.app.task import Task
from celery.contrib.abortable import AbortableTask
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy

from tests.acceptance import heard
from tests.acceptance.ledger import is_open, note
from workers import RetryPolicy, durable_task, step, wait

heard.in_workers()

ONCE = RetryPolicy(max_attempts=1)
AT_ONCE = RetryPolicy(max_attempts=3, min_delay=timedelta(), max_delay=timedelta())

# -- values --------------------------------------------------------------------------------------


@durable_task(retry=ONCE)
def add(x: Any, y: Any, pause: float = 0.1) -> Any:
    wait.sleep(pause)
    return x + y


@durable_task(retry=ONCE)
def total(numbers: list[int], more: int = 0) -> int:
    first = step(sum, numbers)
    wait.sleep(0.1)
    return first + more


@durable_task(retry=ONCE)
def echo(value: Any, pause: float = 0.1) -> Any:
    wait.sleep(pause)
    return value


@durable_task(retry=ONCE)
def boom(message: str = "boom") -> None:
    wait.sleep(0.1)
    raise ValueError(message)


@shared_task
def plain_add(x: int, y: int) -> int:
    return x + y


@shared_task
def plain_total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task
def plain_note(value: Any, tag: str) -> None:
    note(tag, value)


@durable_task(retry=ONCE)
def noted(value: Any, tag: str) -> Any:
    """A callback: waits, then writes down what it was called with."""
    wait.sleep(0.1)
    note(tag, value)
    return value


@shared_task
def plain_errback(request: Any, exc: BaseException, traceback: Any, tag: str) -> None:
    note(tag, [request.id, str(exc)])


@durable_task(retry=ONCE)
def stays(tag: str, pause: float = 3600) -> str:
    """Waits long, between two notes."""
    step(note, tag, "before")
    wait.sleep(pause)
    step(note, tag, "after")
    return tag


@durable_task(retry=ONCE)
def for_event(tag: str) -> Any:
    step(note, tag, "before")
    return wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1)).payload["value"]


# -- what the task sees of itself ----------------------------------------------------------------

_SEEN = (
    "id root_id parent_id group group_index retries eta expires origin argsrepr kwargsrepr shadow stamps "
    "stamped_headers ignore_result replaced_task_nesting timelimit correlation_id"
).split()


def seen(task: Task) -> dict[str, Any]:
    """What a bound task finds in its request."""
    request = task.request
    found = {name: getattr(request, name, None) for name in _SEEN}
    found["custom"] = getattr(request, "custom", None)
    found["headers"] = sorted(request.headers or {})
    found["priority"] = (request.delivery_info or {}).get("priority")
    found["routing_key"] = (request.delivery_info or {}).get("routing_key")
    found["app_id"] = (request.properties or {}).get("app_id")
    found["called_directly"] = request.called_directly
    found["chain"] = len(request.chain or [])
    found["chord"] = bool(request.chord)
    found["links"] = len(request.callbacks or [])
    return found


@durable_task(bind=True, retry=ONCE)
def who(self: Task, tag: str, pause: float = 0.1) -> str:
    """Writes down its request before and after the wait."""
    note(tag, seen(self))
    wait.sleep(pause)
    note(tag, seen(self))
    return str(self.request.id)


@durable_task(retry=ONCE)
def mutates(numbers: list[int], options: dict[str, int] | None = None) -> list[int]:
    """Changes its own argument before the wait."""
    numbers.append(len(numbers))
    wait.sleep(0.1)
    return numbers


# -- retries -------------------------------------------------------------------------------------


@durable_task(bind=True, max_retries=3, default_retry_delay=0)
def retries_by_hand(self: Task, tag: str, times: int = 2) -> list[int]:
    """Fails `times` times after a wait, each time with `self.retry`; its step runs once."""
    step(note, tag, "step")
    wait.sleep(0.1)
    note(tag, f"try {self.request.retries}")
    if self.request.retries < times:
        raise self.retry(exc=KeyError("again"), countdown=0)
    return [self.request.retries]


@durable_task(bind=True, max_retries=2, default_retry_delay=0)
def retries_with(self: Task, tag: str, number: int, word: str = "a") -> str:
    """Retries with other arguments, positional and by name."""
    wait.sleep(0.1)
    note(tag, [number, word])
    if number:
        raise self.retry(args=(tag, number - 1), kwargs={"word": word + "b"}, countdown=0)
    return word


@durable_task(bind=True, autoretry_for=(KeyError,), default_retry_delay=0, max_retries=3)
def auto_retried(self: Task, tag: str, times: int = 2) -> int:
    step(note, tag, "step")
    wait.sleep(0.1)
    note(tag, f"try {self.request.retries}")
    if self.request.retries < times:
        raise KeyError("again")
    return int(self.request.retries)


@durable_task(retry=AT_ONCE)
def policy_retried(tag: str, times: int = 2) -> int:
    """Fails `times` times after a wait; the task's own policy tries it again."""
    wait.sleep(0.1)
    number = note(tag, "try")
    if number <= times:
        raise KeyError("again")
    return int(number)


# -- replace -------------------------------------------------------------------------------------


@durable_task(bind=True, retry=ONCE)
def becomes(self: Task, signature: Any, tag: str = "") -> Any:
    """Waits, then is replaced by `signature`."""
    from celery import signature as load

    wait.sleep(0.1)
    if tag:
        note(tag, self.request.replaced_task_nesting)
    raise self.replace(load(signature, app=self.app))


@durable_task(bind=True, retry=ONCE)
def becomes_itself(self: Task, times: int) -> int:
    wait.sleep(0.1)
    if times:
        raise self.replace(self.si(times - 1))
    return int(self.request.replaced_task_nesting)


# -- base classes, hooks -------------------------------------------------------------------------


class Counting(Task):
    """A user's base class: its own `__call__` and attributes."""

    unit = "counted"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            note(f"{args[0]}:calls", self.name)
        return super().__call__(*args, **kwargs)


@durable_task(base=Counting, bind=True, retry=ONCE)
def counted(self: Counting, tag: str) -> str:
    wait.sleep(0.1)
    return self.unit


class Hooked(Task):
    """Writes down each hook under the run's first argument."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note(args[0], "before_start")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        note(args[0], "on_success")

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], "on_failure")

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], "on_retry")

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(args[0], f"after_return {status}")


@durable_task(base=Hooked, bind=True, max_retries=5, default_retry_delay=0)
def hooked(self: Task, tag: str, retries: int = 0, fails: bool = False) -> str:
    """Two waits an attempt; `retries` retries, then the end."""
    wait.sleep(0.05)
    wait.sleep(0.05)
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    if fails:
        raise ValueError("at the end")
    return "done"


# -- options -------------------------------------------------------------------------------------


@durable_task(ignore_result=True, retry=ONCE)
def ignored(tag: str) -> str:
    wait.sleep(0.1)
    note(tag, "ran")
    return "nobody reads this"


@durable_task(acks_late=True, retry=ONCE)
def late(tag: str, pause: float = 0.1) -> str:
    step(note, tag, "before")
    wait.sleep(pause)
    step(note, tag, "after")
    return "late"


@durable_task(acks_late=True, retry=ONCE)
def late_for_event(tag: str) -> Any:
    return for_event(tag)


@durable_task(rate_limit="1/h", retry=ONCE)
def rated() -> str:
    """A second charge of the limit would hold it for an hour."""
    wait.sleep(0.1)
    wait.sleep(0.1)
    return "done"


@durable_task(retry=ONCE)
def works(tag: str, seconds: float, pause: float = 0.1, again: float | None = None) -> str:
    """Computes for `seconds` before and after a wait; afterwards for `again` if that is given."""
    step(_busy, tag, seconds, key="first")
    wait.sleep(pause)
    step(_busy, tag, seconds if again is None else again, key="second")
    return "done"


def _busy(tag: str, seconds: float) -> None:
    note(tag, "begin")
    time.sleep(seconds)
    note(tag, "end")


@durable_task(retry=ONCE)
def reserves(tag: str, seconds: float) -> None:
    """Has something to undo, computes for so long, and comes to a step."""
    step(note, tag, "reserve", rollback=_undo)
    time.sleep(seconds)
    step(note, tag, "charge", key="charge")


def _undo(tag: str, what: str) -> None:
    note(tag, f"undo {what}")


@durable_task(retry=ONCE)
def steps_on(tag: str, count: int, seconds: float = 0.1) -> int:
    """Many short steps: what a deploy interrupts. They are quick once the gate is open."""
    for number in range(count):
        step(_slow_note, tag, number, seconds)
    return count


def _slow_note(tag: str, number: int, seconds: float) -> None:
    note(tag, number)
    time.sleep(0 if is_open(tag) else seconds)


@durable_task(bind=True, retry=ONCE)
def kinds(self: Task, value: Any) -> list[str]:
    """The type of its argument and the length of it, as they came after the wait."""
    wait.sleep(0.1)
    return [type(value).__name__, str(len(value))]


class LoudRequest(Request):
    """A user's request class, in the worker's main process."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        note(f"request:{self.id}", "accepted")
        super().on_accepted(pid, time_accepted)


def loud_strategy(task: Task, app: Any, consumer: Any, **options: Any) -> Any:
    """A user's strategy: notes each message, then does as ever."""
    inner = default_strategy(task, app, consumer, **options)

    def handle(message: Any, *args: Any, **kwargs: Any) -> Any:
        note(f"strategy:{message.headers['id']}", "received")
        return inner(message, *args, **kwargs)

    return handle


class Loud(Task):
    Request = "tests.acceptance.tasks:LoudRequest"
    Strategy = "tests.acceptance.tasks:loud_strategy"


@durable_task(base=Loud, retry=ONCE)
def loud() -> str:
    wait.sleep(0.1)
    return "heard"


@durable_task(base=AbortableTask, bind=True, retry=ONCE)
def abortable(self: AbortableTask, tag: str) -> bool:
    """Whether it was aborted meanwhile."""
    wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1))
    wait.sleep(0.05)
    return bool(self.is_aborted())


@durable_task(send_events=False, retry=ONCE)
def durable_without_events() -> str:
    wait.sleep(0.1)
    return "quiet"


@durable_task(bind=True, retry=ONCE)
def progresses(self: Task, tag: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    wait.sleep(0.2)
    self.update_state(state="PROGRESS", meta={"done": 2})
    note(tag, "halfway")
    while not is_open(tag):
        time.sleep(0.02)
    return "done"


@shared_task
def plain_kinds(value: Any) -> list[str]:
    return [type(value).__name__, str(len(value))]
