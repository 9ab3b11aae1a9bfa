"""The tasks that faults are done to, and their Celery app.

Every step's value is random: a step that ran again, or was recorded twice, shows.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from itertools import count
from pathlib import Path
from uuid import uuid4

from celery import Celery, shared_task

from tests.faults import ledger
from workers import AbortRun, RetryPolicy, current_run, durable_task, events, step, wait

app = Celery("faults")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(worker_proc_alive_timeout=30.0, worker_hijack_root_logger=False)
app.set_current()

ONCE = RetryPolicy(max_attempts=1)


def _note() -> str:
    run, _, key = current_run().idempotency_key.partition(":")
    ledger.note(run, key)
    return f"{key} {uuid4().hex}"


def act(number: int) -> str:
    """A step of the reference run."""
    return _note()


def undo(number: int) -> None:
    """Its rollback."""
    _note()


def stumble() -> str:
    """A step that fails in the run's first attempt."""
    value = _note()
    if current_run().number == 1:
        raise ConnectionError("the first attempt fails")
    return value


@durable_task(retry=RetryPolicy(max_attempts=3, min_delay=timedelta(milliseconds=100), jitter=False))
@shared_task
def child(parent: str) -> list[str]:
    """The reference run's child: fails once, then tells its parent by an event too."""
    values = [step(act, 1), step(stumble)]
    events.send("helped", {"parent": parent})
    return values


@durable_task(retry=ONCE)
@shared_task
def reference(fails: bool) -> list[str]:
    """12 steps, an event from outside, a timer, a child, a rollback; fails in the end if asked to."""
    me = current_run().id
    values = [step(act, 1), step(act, 2), step(act, 3, rollback=undo)]
    values += [wait.for_event("go", filter={"run": [me]}, timeout=timedelta(hours=1)).payload["said"]]
    values += [step(act, 4), step(act, 5), step(act, 6)]
    wait.sleep(0.3)
    values += [step(act, 7), step(act, 8)]
    values += child.trigger_and_wait(me).unwrap()
    wait.for_event("helped", filter={"parent": [me]}, timeout=timedelta(hours=1))
    values += [step(act, 9), step(act, 10), step(act, 11)]
    events.send("done", {"run": me})
    if fails:
        raise AbortRun("refused in the end")
    return values


def linger() -> str:
    """A step that takes until it is let go; each worker that is at it is let go by itself."""
    value = _note()
    path = Path(os.environ[ledger.PATH])
    go = ledger.let_go(path, ledger.lingering(path))
    while not go.exists():
        time.sleep(0.02)
    return value


@durable_task(retry=ONCE)
@shared_task
def lingering() -> list[str]:
    """Stays in its second step; after it there is more to do."""
    return [step(act, 1), step(linger), step(act, 2), step(act, 3)]


@durable_task(retry=ONCE)
@shared_task
def plodding() -> None:
    """Two steps, and after a pause until it is let go steps without end."""
    path = Path(os.environ[ledger.PATH])
    for number in count():
        while number == 2 and not ledger.let_go(path, 1).exists():
            time.sleep(0.02)
        step(act, number)


@durable_task(retry=ONCE)
@shared_task
def waiting(number: int) -> list[str]:
    """Two steps around an event."""
    values = [step(act, 1)]
    wait.for_event("go on", filter={"number": [number]}, timeout=timedelta(hours=1))
    return [*values, step(act, 2)]


@durable_task(retry=ONCE)
@shared_task
def busy(number: int, rounds: int) -> list[str]:
    """Steps, timers and events of its own, one after the other."""
    values = []
    for _ in range(rounds):
        values.append(step(act, number))
        time.sleep(0.05)
        wait.sleep(0.05)
        events.send("beat", {"number": number})
    return values


def suicide() -> None:
    """Step code that takes its process down, as a crash in C code does."""
    _note()
    os.kill(os.getpid(), signal.SIGKILL)


@durable_task(retry=ONCE)
@shared_task
def poison() -> None:
    """Kills its pool process every time."""
    step(suicide)


@durable_task(retry=ONCE)
@shared_task
def quick(number: int) -> str:
    """One step."""
    return step(act, number)
