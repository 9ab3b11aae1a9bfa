"""Many look at one run, over HTTP, at one server process: when each sees each step, and what it costs the database."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection, connections
from django.test import Client

from triggerapp.engine import environments, queues, sql, steps
from triggerapp.models import Run, Status
from triggerapp.services.process import leash
from workers.bench import stage, tasks
from workers.bench.report import Figure
from workers.bench.stage import Stage

TITLE = "live viewers of one run, one server process"
PATIENCE = 60.0
PAUSE = 0.5
"""Seconds between two steps."""
_USER = "bench-viewer"


@dataclass(slots=True, kw_only=True)
class Seen:
    """What came of it."""

    viewers: int
    updates: int
    delays: list[float] = field(default_factory=list)
    """Seconds from the commit of a step to its arrival, for each viewer and step that arrived."""
    connections: int = 0
    """Of the server to the database, at most."""
    connections_of_one: int = 0
    """The same while one viewer looked."""

    @property
    def delivered(self) -> float:
        """The share of updates that arrived."""
        return len(self.delays) / (self.viewers * self.updates)

    def slowest(self, share: float) -> float:
        """So many of a hundred were not slower."""
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(on: Stage) -> list[Figure]:
    """300 viewers, and a step every half second."""
    count, updates = on.pick((300, 60), quick=(50, 10))
    on.say(f"viewers: {count} look at one run")
    with serving() as server:
        seen = look(server, viewers=count, updates=updates)
    return [
        Figure(
            name=f"{count} viewers, {updates} updates: delivered", value=100 * seen.delivered, unit="%", target=100.0
        ),
        Figure(name="step committed to seen, p50", value=1000 * seen.slowest(0.5), unit="ms", lower_is_better=True),
        Figure(
            name="step committed to seen, p99",
            value=1000 * seen.slowest(0.99),
            unit="ms",
            target=500.0,
            lower_is_better=True,
        ),
        Figure(
            name="database connections more than for one viewer",
            value=seen.connections - seen.connections_of_one,
            target=0,
            lower_is_better=True,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server of the dashboard."""

    port: int
    pid: int


@contextmanager
def serving() -> Iterator[Server]:
    """A server process on the database of this one."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.bench.server", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, tasks.DATABASE: connection.settings_dict["NAME"]},
            preexec_fn=leash(signal.SIGKILL),
        )
        try:
            yield Server(port=listener.getsockname()[1], pid=process.pid)
        finally:
            process.kill()
            process.wait()


def look(server: Server, *, viewers: int, updates: int) -> Seen:
    """Have a run make steps while so many look at its page."""
    with cookie() as text:
        return asyncio.run(_look(server, _running(), text, viewers, updates))


def _running() -> Run:
    environment = environments.current()
    return Run.objects.create(
        task_id="bench-viewed",
        environment_id=environment,
        queue_id=queues.identify(environment, "bench"),
        task="bench.viewed",
        status=Status.RUNNING,
        lease=1,
        message='{"content_type": "application/json"}',
        payload=b"[[], {}, {}]",
    )


@contextmanager
def cookie() -> Iterator[str]:
    """Of somebody who may look, for as long as they do."""
    user = get_user_model().objects.create(username=_USER, is_active=True)
    user.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    try:
        yield f"{name}={client.cookies[name].value}"
    finally:
        user.delete()


async def _look(server: Server, run: Run, cookie: str, viewers: int, updates: int) -> Seen:
    seen = Seen(viewers=viewers, updates=updates)
    committed: list[float] = []
    with _thread() as in_thread:
        async with _viewing(server, run.id, cookie, seen, committed, count=1):
            seen.connections_of_one = await in_thread(_connections)
            async with _viewing(server, run.id, cookie, seen, committed, count=viewers - 1):
                for number in range(updates):
                    await in_thread(_step, run.id, number)
                    committed.append(time.monotonic())
                    await asyncio.sleep(PAUSE)
                    seen.connections = max(seen.connections, await in_thread(_connections))
                await _until(lambda: len(seen.delays) >= viewers * updates)
    return seen


@contextmanager
def _thread() -> Iterator[Callable[..., asyncio.Future[Any]]]:
    """One thread, and so one connection of ours, for all that is asked of the database meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield partial(asyncio.get_running_loop().run_in_executor, pool)
        finally:
            pool.submit(connections.close_all)


def _step(run: UUID, number: int) -> None:
    key = _key(number)
    steps.record(run, key, lease=1, digest="0" * 64, value="null", error=None, took=timedelta())


def _key(number: int) -> str:
    return f"update#{number + 1:06d}"


def _connections() -> int:
    """How many the database has, those of whoever asks left out: they are the same before and after."""
    row = sql.row("SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()")
    assert row is not None
    return int(row["n"])


@asynccontextmanager
async def _viewing(
    server: Server, run: UUID, cookie: str, seen: Seen, committed: Sequence[float], *, count: int
) -> AsyncIterator[None]:
    """So many streams, each of which has begun to say how the run stands."""
    begun: list[int] = []
    viewers = [asyncio.create_task(_view(server, run, cookie, seen, committed, begun)) for _ in range(count)]
    try:
        await _until(lambda: len(begun) == count or any(viewer.done() for viewer in viewers))
        for viewer in viewers:
            if viewer.done():
                viewer.result()
        yield
    finally:
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


async def _view(
    server: Server, run: UUID, cookie: str, seen: Seen, committed: Sequence[float], begun: list[int]
) -> None:
    """Follow one stream; note when each step is on the page for the first time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 24)
    try:
        request = f"GET /triggers/runs/{run}/live HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
        writer.write(request.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise stage.BenchError(f"the server answered {status.decode().strip()}")
        has_begun, found = False, 0
        while True:
            event = await reader.readuntil(b"\n\n")
            if not has_begun and b"event: facts" in event:
                has_begun = True
                begun.append(1)
            while _key(found).encode() in event:
                seen.delays.append(time.monotonic() - _moment(committed, found))
                found += 1
    finally:
        writer.close()


def _moment(committed: Sequence[float], number: int) -> float:
    """When it was committed; one that is here before that is noted was so just now."""
    return committed[number] if number < len(committed) else time.monotonic()
