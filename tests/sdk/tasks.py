"""What the SDK triggers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from workers import RetryPolicy, durable_task, step, wait

ONCE = RetryPolicy(max_attempts=1)


@durable_task(name="sdk.add", retry=ONCE)
def add(x: int, y: int) -> int:
    return step(sum, [x, y])


@durable_task(name="sdk.echo", retry=ONCE)
def echo(value: Any = None) -> Any:
    return value


@durable_task(name="sdk.fail", retry=ONCE)
def fail(message: str) -> None:
    raise ValueError(message)


@durable_task(name="sdk.sleep", retry=ONCE)
def sleep(seconds: float) -> str:
    wait.sleep(seconds)
    return "slept"


@durable_task(name="sdk.take_token", retry=ONCE)
def take_token(token: str) -> Any:
    return wait.for_token(token)


@durable_task(name="sdk.give_token", retry=ONCE)
def give_token(tag: str) -> Any:
    return wait.create_token(timeout=timedelta(hours=1), tags=[tag]).wait()
