"""The app and the tasks that are measured; the bench's workers load it too.

Broker, result backend and every other Celery setting are the project's own; queue and database are the
bench's, named by the environment.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta

from celery import Celery
from django.conf import settings
from django.db import connections

from workers import durable_task, step, wait

DATABASE = "TRIGGERAPP_BENCH_DATABASE"
QUEUE = "TRIGGERAPP_BENCH_QUEUE"
STORE = "TRIGGERAPP_BENCH_STORE"

app = Celery("triggerapp-bench", set_as_current=False)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(task_default_queue=os.environ.get(QUEUE, "triggerapp-bench"), result_expires=600)

if DATABASE in os.environ:  # a worker or its ticker: nothing has been opened yet, nor read of the settings
    connections.settings["default"]["NAME"] = os.environ[DATABASE]
    _checkpoints = {"CHECKPOINT": "off"}  # what is measured without a store is re-entry
    if STORE in os.environ:
        _checkpoints = {"CHECKPOINT": "auto", "CHECKPOINT_STORE": os.environ[STORE]}
    settings.TRIGGERAPP = getattr(settings, "TRIGGERAPP", {}) | _checkpoints | {"CHECKPOINT_MIN_WAIT": timedelta()}


@app.task
def plain_noop() -> None:
    """What Celery alone does for a task."""


@durable_task
@app.task
def durable_noop() -> None:
    """The same as a run."""


@durable_task(checkpoint=True)
@app.task
def own_noop() -> None:
    """One that has a process of its own, in workers that keep images."""


@durable_task(checkpoint=False)
@app.task
def pool_noop() -> None:
    """One that stays in the pool process, where others may have a process of their own."""


def _nothing(number: int) -> int:
    return number


@durable_task
@app.task
def ten_steps() -> float:
    """A run of ten steps that do nothing; how many seconds they took."""
    return _steps(10)


@durable_task
@app.task
def many_steps(count: int) -> float:
    """One long run."""
    return _steps(count)


def _steps(count: int) -> float:
    started = time.perf_counter()
    for number in range(count):
        step(_nothing, number)
    return time.perf_counter() - started


@durable_task
@app.task
def nap() -> None:
    """The shortest of waits, for slots to have suspended a run before anything is measured."""
    wait.sleep(0.01)


@durable_task
@app.task
def sleep_for(seconds: float) -> float:
    """Sleep, and say when the next line was reached."""
    wait.sleep(seconds)
    return time.time()


@durable_task
@app.task
def sleep_until(moment: str) -> float:
    """Sleep until a moment that many share, and say when the next line was reached."""
    wait.until(datetime.fromisoformat(moment))
    return time.time()


@durable_task
@app.task
def await_event(user: int) -> float:
    """Wait for this user's event, and say when the next line was reached."""
    wait.for_event("bench/signed", filter={"user": user}, timeout=timedelta(hours=1))
    return time.time()


@durable_task
@app.task
def fan_out(children: int) -> float:
    """Trigger children and wait for all; how many seconds it took."""
    durable_noop.batch_trigger_and_wait([()] * children)
    return time.time()
