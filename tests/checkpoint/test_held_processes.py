"""What a process may hold while it is away, a row of docs/checkpoints.md each: what runs in it."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import subprocess
import threading
import time
from collections.abc import Generator

import pytest

from tests.checkpoint.holding import Held

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]


def test_threads_idle_and_busy_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        counted, work, done = [0], queue.Queue[int](), queue.Queue[int]()
        stop = threading.Event()

        def count() -> None:
            while not stop.is_set():
                counted[0] += 1

        threads = [
            threading.Thread(target=count),
            threading.Thread(target=lambda: done.put(work.get() * 2)),
            threading.Thread(target=stop.wait),
        ]
        for thread in threads:
            thread.start()
        yield
        before = counted[0]
        work.put(21)
        answer = done.get(timeout=60)
        deadline = time.monotonic() + 60
        while counted[0] == before and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join(60)
        return [answer, counted[0] > before, any(thread.is_alive() for thread in threads)]

    assert held.across(holding) == [42, True, False]


def test_an_asyncio_loop_goes_on_in_the_middle_of_an_await(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        runner = asyncio.Runner()
        loop = runner.get_loop()
        future = loop.create_future()

        async def body() -> str:
            async with asyncio.timeout(60):
                return f"got {await future}"

        task = loop.create_task(body())
        loop.run_until_complete(asyncio.sleep(0.01))  # it stands in its await now
        yield
        loop.call_later(0.05, future.set_result, 7)
        found = loop.run_until_complete(task)
        runner.close()
        return found

    assert held.across(holding) == "got 7"


def test_a_subprocess_travels_with_its_parent(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin and child.stdout
        child.stdin.write(b"before ")
        child.stdin.flush()
        yield
        output, _ = child.communicate(b"after")
        return [output.decode(), child.returncode]

    assert held.across(holding) == ["before after", 0]


def test_multiprocessing_locks_queues_and_pools_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        context = multiprocessing.get_context("fork")
        lock, values = context.Lock(), context.Queue()
        lock.acquire()
        values.put("queued")
        with context.Pool(2) as pool:
            first = pool.map(abs, [-1, -2])
            time.sleep(0.1)  # the queue's thread has written
            yield
            found = [first, pool.map(abs, [-3, -4]), values.get(timeout=60), lock.acquire(block=False)]
        values.close()
        values.join_thread()
        return found

    assert held.across(holding) == [[1, 2], [3, 4], "queued", False]


def test_numpy_with_its_threads_goes_on(held: Held) -> None:
    pytest.importorskip("numpy")

    def holding() -> Generator[None, None, object]:
        import numpy

        matrix = numpy.arange(250_000, dtype=float).reshape(500, 500) / 250_000
        product = matrix @ matrix  # OpenBLAS has its threads now
        yield
        return bool((matrix @ matrix == product).all())

    assert held.across(holding) is True
