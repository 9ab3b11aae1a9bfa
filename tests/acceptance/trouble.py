"""Tasks that go wrong on purpose, are killed in their middle, or hold their worker until a gate is opened."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore, Reject
from django.db import transaction

from tests.acceptance.ledger import is_open, note, once
from tests.acceptance.tasks import ONCE
from workers import durable_task, step, wait


@durable_task(acks_late=True, retry=ONCE)
def rejects_once(tag: str) -> str:
    """Has the broker deliver its message again, once."""
    wait.sleep(0.1)
    note(tag, "entered")
    if once(tag):
        raise Reject("not now", requeue=True)
    return "accepted"


@durable_task(acks_late=True, retry=ONCE)
def rejects(tag: str) -> str:
    wait.sleep(0.1)
    note(tag, "entered")
    raise Reject("never", requeue=False)


@durable_task(retry=ONCE)
def ignores(tag: str) -> None:
    wait.sleep(0.1)
    note(tag, "entered")
    raise Ignore


@durable_task(retry=ONCE)
async def interrupted(tag: str) -> None:
    note(tag, "entered")
    raise asyncio.CancelledError("by its own code")


@durable_task(retry=ONCE)
def too_large(tag: str) -> None:
    note(tag, "entered")
    raise MemoryError("too large")


@durable_task(retry=ONCE)
def swallows(tag: str) -> str:
    try:
        wait.sleep(3600)  # a short one might be over, and another slot have the run, before it is swallowed
    except BaseException:
        note(tag, "caught")
    return "as if nothing had been"


@durable_task(retry=ONCE)
def waits_in_transaction(tag: str) -> str:
    with transaction.atomic():
        try:
            wait.sleep(0.1)
        except Exception as error:
            return type(error).__name__
    return "waited"


def _die_once(tag: str) -> None:
    if once(tag):
        os.kill(os.getpid(), signal.SIGKILL)


@durable_task(retry=ONCE)
def killed(tag: str) -> str:
    """Its process is killed once, after the wait."""
    step(note, tag, "first")
    wait.sleep(0.1)
    note(tag, "entered")
    _die_once(tag)
    step(note, tag, "second")
    return "survived"


@durable_task(acks_late=True, reject_on_worker_lost=True, retry=ONCE)
def killed_late(tag: str) -> str:
    """The same, its message unacknowledged until it ends."""
    return killed(tag)


@durable_task(retry=ONCE)
def gated(tag: str) -> str:
    """Holds its worker until the gate is opened."""
    step(note, tag, "before")
    while not is_open(tag):
        time.sleep(0.02)
    note(tag, "through")
    step(note, tag, "after")
    return tag


@durable_task(acks_late=True, retry=ONCE)
def gated_late(tag: str) -> str:
    """The same, its message unacknowledged until it ends."""
    return gated(tag)


@durable_task(retry=ONCE)
def gated_after_wait(tag: str) -> str:
    wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1))
    note(tag, "resumed")
    while not is_open(tag):
        time.sleep(0.02)
    return tag


@shared_task
def plain_dies(_: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
