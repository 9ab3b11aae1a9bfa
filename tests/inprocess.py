"""A worker in this process: its messages come from memory, its pool is a plain call.

All between broker and database is the real thing: Celery's request and tracer, our executor, the ticks. Time passes
by `forward`, which moves what the database knows about time into the past.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import celery.worker.state
from celery import Celery
from django.apps import apps
from django.db import connection, models
from kombu.transport.memory import Channel

from triggerapp.engine import workers
from workers import identity, link
from workers.handle import RunHandle
from workers.task import durable_task
from workers.ticker import Ticker

app = Celery("tests", backend="cache+memory://", set_as_current=False)
# Not `broker_url`: the environment, which names the session's server, goes before it.
app.conf.update(broker_read_url="memory://here", broker_write_url="memory://here")
_numbers = count(1)


class Killed(SystemExit):
    """Ends the pool process in the middle of things, as SIGKILL does: nothing is written after it."""


def durable(fn: Callable[..., Any] | None = None, /, *, retry: Any = None, max_duration: Any = None, **options: Any):
    """`@durable_task` over `@app.task`, under a name that no other test has."""

    def decorate(fn: Callable[..., Any]) -> Any:
        task = app.task(name=f"tests.{fn.__name__}.{next(_numbers)}", **options)(fn)
        return durable_task(retry=retry, max_duration=max_duration)(task)

    return decorate if fn is None else decorate(fn)


class _Pool:
    """Calls at once; what Celery's pool passes through pipes goes through here."""

    def apply_async(self, trace: Any, *, args: Any, accept_callback: Any, callback: Any, **_: Any) -> None:
        accept_callback(os.getpid(), time.monotonic())
        callback(trace(*args, app=app))


class Worker:
    """Takes messages, and ticks, only when told to."""

    def __init__(self) -> None:
        identity.renew()
        self.ticker = Ticker(identity.worker(), hostname="here", parent=os.getpid(), announce=bool)
        self._tell, link.tell = link.tell, self._told
        self.beat()

    def stop(self) -> None:
        link.tell = self._tell
        celery.worker.state.reset_state()

    def beat(self) -> None:
        workers.beat(identity.worker(), hostname="here", pid=os.getpid())

    def _told(self, what: str, **fields: Any) -> None:
        self.ticker.reports.add({"what": what, **fields})

    def work(self) -> int:
        """Take messages until there are none; how many there were."""
        taken = 0
        while (message := next(_messages(), None)) is not None:
            taken += 1
            self._take(message)
        return taken

    def _take(self, message: Any) -> None:
        task = app.tasks[message.headers["task"]]
        request = task.Request(message, app=app, task=task, hostname="here", on_ack=_ignore, on_reject=_ignore)
        try:
            request.execute_using_pool(_Pool())
        except Killed:
            celery.worker.state.reset_state()
        self.ticker.reports.settle()

    def tick(self) -> None:
        """What the ticker does from time to time, all of it, and then the work it found."""
        self.ticker._due.clear()
        self.ticker.tick()
        self.work()

    def until(self, run: RunHandle[Any] | Any, *, ticks: int = 20) -> Any:
        """Work, skipping all pauses, until the run has ended; its result."""
        handle = run if isinstance(run, RunHandle) else RunHandle(id=str(run.id), task_id=str(run.id))
        self.work()
        for n in range(ticks):
            if handle.refresh().finished_at is not None:
                break
            forward(hours=min(2**n, 24))
            self.beat()
            self.tick()
        return handle.get(timeout=0)

    def die(self) -> None:
        """The heart stops; the runs it had are anybody's from now on. Another worker begins."""
        workers.leave(identity.worker())
        forward(seconds=1)
        identity.renew()
        self.ticker.worker = self.ticker.reports.worker = identity.worker()
        self.beat()


def _ignore(*_: Any, **__: Any) -> None:
    """Messages in memory need no acknowledgement."""


def _messages() -> Iterator[Any]:
    with app.connection_for_read() as broker:
        channel = broker.default_channel
        for name in sorted(Channel.queues):
            while (message := channel.basic_get(name, no_ack=True)) is not None:
                yield message


def messages() -> list[Any]:
    """Take what was sent, unread."""
    return list(_messages())


def forget_messages() -> None:
    for queue in Channel.queues.values():
        queue.queue.clear()


@contextmanager
def broker_down() -> Iterator[None]:
    """The broker refuses every connection."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError("the broker is down")

    usual, Channel._put = Channel._put, refuse
    try:
        yield
    finally:
        Channel._put = usual


def forward(**delta: float) -> None:
    """Let time pass: every moment that the database knows is so much longer ago, or so much nearer."""
    with connection.cursor() as cursor:
        for model in apps.get_app_config("triggerapp").get_models():
            names = [f.column for f in model._meta.concrete_fields if isinstance(f, models.DateTimeField)]
            if not names:
                continue
            moved = ", ".join(f"{name} = {name} - %(delta)s" for name in names)
            cursor.execute(f"UPDATE {model._meta.db_table} SET {moved}", {"delta": timedelta(**delta)})


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call all at the same time, each over a connection of its own; their results."""

    def call(fn: Callable[[], Any]) -> Any:
        try:
            return fn()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call, fn) for fn in calls]]
