"""Tasks whose state is in memory alone, and cannot be pickled: what waiting by checkpoint is for."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import psutil

from tests.acceptance.ledger import is_open, note, notes
from tests.acceptance.tasks import ONCE
from workers import checkpointable, durable_task, light, step, wait

light.SHORT = float(os.environ.get("ACCEPTANCE_SHORT", light.SHORT))  # type: ignore[misc]  # all is slow if it is busy


@durable_task(retry=ONCE)
def holds(tag: str) -> Any:
    """A generator in its middle, a closure and a lock, none of which could be pickled, over a wait."""
    note(tag, "entered")
    numbers = (number for number in range(5))
    found = [next(numbers), next(numbers)]
    lock = Lock()
    lock.acquire()

    def inner() -> str:
        return "closure" if found[:2] == [0, 1] else "lost"

    found.append(next(numbers))
    value = wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1)).payload["value"]
    return [*found, *numbers, value, inner(), lock.locked()]


@durable_task(retry=ONCE)
def steps_between(tag: str) -> list[Any]:
    """Three waits, and a step after each that notes the day."""
    note(tag, "entered")
    days = []
    for day in ("monday", "tuesday", "wednesday"):
        came = wait.for_event("go", filter={"tag": [f"{tag} {day}"]}, timeout=timedelta(hours=1))
        days.append(step(noted, tag, day, came.payload["value"]))
    return days


def noted(tag: str, *what: str) -> list[str]:
    note(tag, what)
    return list(what)


@durable_task(retry=ONCE)
def rights(tag: str) -> Any:
    """Who it is and what it may, before and after a wait."""
    note(tag, "entered")
    found = [_rights()]
    wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1))
    return [*found, _rights()]


def _rights() -> list[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:"))]


@durable_task(retry=ONCE)
async def dreams(tag: str) -> Any:
    """A loop with a coroutine that goes on beside the one that waits."""
    note(tag, "entered")
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(len(ticks))
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.1)
    before = len(ticks)
    value = wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1)).payload["value"]
    await asyncio.sleep(0.1)
    ticking.cancel()
    return [value, before > 0, len(ticks) > before]


@durable_task(retry=ONCE)
async def dozes(tag: str, until: str) -> int:
    """Neither step nor wait: awaits alone, until there is this file. How often it was entered."""
    note(tag, "entered")
    while not Path(until).exists():
        await asyncio.sleep(0.02)
    return len(notes(tag))


@durable_task(retry=ONCE)
def maps(tag: str, path: str) -> str:
    """Maps a file privately, as libraries are mapped."""
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1))
    return mapped[:6].decode()


@durable_task(retry=ONCE)
def connects(tag: str, path: str, registered: bool = False) -> Any:
    """Has a connection to somebody else's unix socket over its wait."""
    entered = note(f"{tag}:entered", "entered")
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.recv(1)  # one that nobody has accepted yet has no other end to name
    if registered:
        checkpointable(
            connection,
            close=lambda held: (note(tag, "closed"), held.close()),
            reopen=lambda held: note(tag, "opened"),
        )
    value = wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1)).payload["value"]
    return [value, note(f"{tag}:entered", "went on") - entered]


_left: list[socket.socket] = []


@durable_task(retry=ONCE)
def leaves(path: str) -> None:
    """Leaves a connection to somebody else's unix socket to its process."""
    _left.append(connection := socket.socket(socket.AF_UNIX))
    connection.connect(path)
    connection.recv(1)


def _cannot_be_closed(held: object) -> None:
    raise RuntimeError("it is stuck")


@durable_task(retry=ONCE)
def registers(tag: str, *, waits: bool) -> Any:
    """Registers two things, of which the one that is closed last cannot be; waits or ends at once."""
    note(tag, "entered")
    checkpointable(Counter(), close=_cannot_be_closed)
    checkpointable(tag, close=lambda held: note(held, "closed"), reopen=lambda held: note(held, "opened"))
    return wait.for_event("go", filter={"tag": [tag]}, timeout=timedelta(hours=1)).payload["value"] if waits else "over"


@durable_task(retry=ONCE)
def waits_for(token: str) -> Any:
    """Wait for somebody's token."""
    return wait.for_token(token)


@durable_task(retry=ONCE)
def says(*words: str) -> None:
    """Logs and prints, itself and through a child process; a wait between the words."""
    for word in words:
        logging.getLogger("tests.said").warning("logged %s", word)
        sys.stdout.write(f"printed {word}\n")
        subprocess.run(["echo", f"from a child {word}"], check=True)
        wait.sleep(0.1)


_PAUSES = {"short": wait.sleep}
"""A wait that cannot be seen in the code of who calls it."""


@durable_task(retry=ONCE)
def seldom_waits(tag: str, *, seconds: float = 0) -> int:
    """Who is its process's parent; says that it was entered if it waits, and then waits."""
    if seconds:
        note(tag, "entered")
        _PAUSES["short"](seconds)
    return os.getppid()


@durable_task(retry=ONCE)
def pids() -> list[Any]:
    """Its process, which one of its pid, and the one that was forked from."""
    return [os.getpid(), psutil.Process().create_time(), os.getppid()]


@durable_task(retry=ONCE)
def holds_on(tag: str) -> str:
    """Tells its process, then holds it until the gate is opened."""
    note(tag, os.getpid())
    while not is_open(tag):
        time.sleep(0.02)
    return tag


def _turns(until: str) -> Iterator[int]:
    yield (number := 1)  # also of one that is dumped before it, and restored after the end came
    while not Path(until).exists():
        number += 1
        yield number


@durable_task(retry=ONCE)
def computes(tag: str, until: str) -> list[int]:
    """A busy loop over a generator, with neither step nor wait, until there is this file.

    How many turns are missing, how often one was counted at most, in memory alone, and how often it was entered.
    """
    counted: Counter[int] = Counter()
    note(tag, "began")
    for turn in _turns(until):
        counted[turn] += 1
        end = time.process_time() + 0.005
        while time.process_time() < end:
            pass
    return [max(counted) - len(counted), max(counted.values()), len(notes(tag))]
