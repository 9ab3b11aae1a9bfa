"""What a user's type checker sees. Never run: `test_typing.py` has mypy read it, strictly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from celery import Celery, Task, shared_task
from celery.result import AsyncResult

from workers import CurrentRun, RetryPolicy, RunHandle, RunResult, current_run, durable_task, events, step, wait
from workers.durable import DurableTask
from workers.wait import ReceivedEvent, Token

app = Celery("shop")


@durable_task
def purchase(ticket: str, *, seats: int = 1) -> float:
    return 1.0


@durable_task(queue="orders", retry=RetryPolicy(max_attempts=5), max_duration=timedelta(minutes=1))
def with_options(ticket: str) -> int:
    return 1


@durable_task(bind=True)
def bound(self: Task[Any, Any], ticket: str) -> bytes:
    return b""


@durable_task
@shared_task
def on_top(ticket: str) -> bool:
    return True


@durable_task
@app.task
def on_top_of_an_app(ticket: str) -> bool:
    return True


@durable_task(retry=RetryPolicy(max_attempts=1))
@shared_task(acks_late=True)
def on_top_with_options(ticket: str) -> list[int]:
    return []


assert_type(purchase("t1"), float)
assert_type(purchase.delay("t1", seats=2), AsyncResult[float])
assert_type(purchase.trigger("t1", seats=2), RunHandle[float])
assert_type(purchase.trigger("t1").get(), float)
assert_type(purchase.trigger_and_wait("t1"), RunResult[float])
assert_type(purchase.trigger_and_wait("t1").unwrap(), float)
assert_type(purchase.trigger_and_wait("t1").output, float | None)
assert_type(purchase.batch_trigger([("t1",), ("t2",)]), list[RunHandle[float]])
assert_type(purchase.batch_trigger_and_wait([("t1",)]), list[RunResult[float]])
assert_type(purchase.with_options(delay=timedelta(1)).trigger("t1"), RunHandle[float])
assert_type(purchase.trigger("t1").replay(), RunHandle[float])
assert_type(purchase.trigger("t1").status, str)

assert_type(with_options.trigger("t1"), RunHandle[int])
assert_type(bound.trigger("t1"), RunHandle[bytes])
assert_type(on_top.trigger("t1"), RunHandle[bool])
assert_type(on_top_of_an_app.trigger("t1"), RunHandle[Any])  # the stubs of `app.task` forget the function
assert_type(on_top_with_options.trigger("t1"), RunHandle[list[int]])

purchase.trigger(7)  # type: ignore[arg-type]
purchase.trigger()  # type: ignore[call-arg]
purchase.delay("t1", rows=1)  # type: ignore[call-arg]
purchase.trigger_and_wait("t1", 2)  # type: ignore[call-arg]
with_options.trigger(7)  # type: ignore[arg-type]
bound.trigger(7)  # type: ignore[arg-type]
on_top.trigger(7)  # type: ignore[arg-type]


def charge(cart: str, *, amount: int = 1) -> dict[str, int]:
    return {cart: amount}


@step
def reserve(ticket: str, row: int) -> tuple[str, int]:
    return ticket, row


assert_type(step(charge, "c1"), dict[str, int])
assert_type(step(charge, "c1", amount=2, key="charge", retry=RetryPolicy(), rollback=print), dict[str, int])
assert_type(reserve("t1", 2), tuple[str, int])
reserve("t1")  # type: ignore[call-arg]

assert_type(wait.for_event("paid", filter={"id": [7]}, timeout=timedelta(1)), ReceivedEvent)
assert_type(wait.create_token(timeout=timedelta(1)), Token)
assert_type(wait.create_token().url, str)
assert_type(events.send("paid", {"id": 7}), str)
assert_type(current_run(), CurrentRun)
assert_type(current_run().idempotency_key, str)
wait.sleep(5)
wait.sleep(timedelta(days=2))
wait.sleep(days=2)
wait.until(datetime(2200, 1, 1, tzinfo=UTC))
wait.until("tomorrow")  # type: ignore[arg-type]
wait.for_event("paid", timeout=5)  # type: ignore[arg-type]


def takes_any_task(task: DurableTask[Any, int]) -> RunHandle[int]:
    return task.trigger()
