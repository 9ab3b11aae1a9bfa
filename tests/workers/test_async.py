"""`async def` tasks and steps: a loop of the run's own, which stands still while the run waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.inprocess import durable
from triggerapp.models import Run, Status
from workers import RetryPolicy, current_run, step, wait

ONCE = RetryPolicy(max_attempts=1)


async def fetch(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


def test_a_coroutine_is_entered_again_and_its_steps_run_once(worker):
    seen: list[str] = []

    @durable
    async def purchase():
        seen.append("entered")
        await asyncio.sleep(0)
        first = step(lambda: seen.append("step") or 20, key="first")
        wait.sleep(60)
        await asyncio.sleep(0)
        return first + step(fetch, 11)

    assert worker.until(purchase.trigger()) == 42
    assert seen == ["entered", "step", "entered"]


def test_what_is_durable_works_in_a_running_loop(worker):
    @durable
    async def child():
        return await fetch(4)

    @durable
    async def parent():
        current_run().set_metadata(loop=str(type(asyncio.get_running_loop()).__name__))
        token = wait.create_token(timeout=timedelta(days=1))
        found = child.trigger_and_wait().output
        assert asyncio.get_running_loop() is not None
        return [found, bool(token.id)]

    handle = parent.trigger()
    assert worker.until(handle) == [8, True]
    assert "loop" in Run.objects.get(pk=handle.id).metadata


@pytest.mark.parametrize("how", ["gather", "group"])
def test_a_wait_in_one_of_several_coroutines_is_a_wait_of_the_run(worker, how):
    async def part(key: str) -> str:
        wait.sleep(60, key=key)
        return key

    @durable(retry=ONCE)
    async def both():
        if how == "gather":
            return list(await asyncio.gather(part("a"), part("b")))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part(key)) for key in "ab"]
        return [task.result() for task in tasks]

    assert worker.until(both.trigger()) == ["a", "b"]


def test_no_except_in_a_coroutine_swallows_a_suspension_and_what_it_raises_fails_the_run(worker):
    @durable(retry=ONCE)
    async def stubborn():
        try:
            wait.sleep(60)
        except Exception:
            return "swallowed"
        raise ValueError("its own")

    handle = stubborn.trigger()
    with pytest.raises(ValueError, match="its own"):
        worker.until(handle)
    assert Run.objects.get(pk=handle.id).status == Status.FAILED


def test_outside_of_a_run_a_coroutine_function_is_one(database):
    @durable
    async def plain():
        return await fetch(21)

    assert asyncio.run(plain()) == 42
