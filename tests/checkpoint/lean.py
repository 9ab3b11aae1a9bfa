"""Freezing and thawing forks of a program that holds no more than a run does: pytest has hundreds of megabytes by now.

Run as a program it does one of its functions in a folder, and prints what that returns as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import checkpoint
from checkpoint import sandbox
from checkpoint.archive import Archive
from checkpoint.line import Line
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore
from tests.checkpoint.freezing import SOON, Freezer


def count(line: Line) -> None:
    """Park again and again, with the turn's number and how many mappings this process has."""
    for number in range(10_000):
        mappings = len(Path("/proc/self/maps").read_text().splitlines())
        sandbox.park(line, f"{number} {mappings}".encode())


def stand(line: Line) -> None:
    sandbox.park(line)


def cycle(folder: Path, times: int) -> list[dict[str, int]]:
    """What one process, its image and its supervisor hold in each of `times` dumps and restores."""
    freezer = make_freezer(folder)
    base = freezer.make_base(checkpoint.start(stand, output=folder / "output"))
    process = checkpoint.start(count, output=folder / "output")
    process.await_park(timeout=SOON)
    grown = []
    for _ in range(times):
        label, stored = freezer.freeze(process, base=base)
        process = freezer.thaw(label)
        number, mappings = map(int, process.await_park(timeout=SOON).split())
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
        ours = len(os.listdir("/proc/self/fd"))
        grown.append({"number": number, "size": stored.size, "mappings": mappings, "files": files, "ours": ours})
        freezer.archive.store.delete(label.checkpoint)
    process.end()
    return grown


def at_once(folder: Path, many: int) -> list[int]:
    """The turns at which `many` processes go on that were frozen at different ones, and restored together."""
    freezer = make_freezer(folder)
    base = freezer.make_base(checkpoint.start(stand, output=folder / "output"))
    waiting = [checkpoint.start(count, output=folder / "output") for _ in range(many)]
    for number, process in enumerate(waiting):
        for _ in range(number):
            process.await_park(timeout=SOON)
            process.wake(restored=False)
        process.await_park(timeout=SOON)
    labels = [freezer.freeze(process, base=base)[0] for process in waiting]
    with ThreadPoolExecutor(many) as pool:
        restored = list(pool.map(freezer.thaw, labels))
        # Still in the pool: a process ends with the thread that it is the child of.
        counts = [int(process.await_park(timeout=SOON).split()[0]) for process in restored]
        for process in restored:
            process.end()
    return counts


def make_freezer(folder: Path) -> Freezer:
    ring = Keyring(current="one", keys={"one": b"1" * 32})
    archive = Archive(store=DirectoryStore(folder / "store"), keyring=ring, scratch=folder / "scratch")
    return Freezer(criu=checkpoint.driver(), archive=archive)


def main(function: str, folder: str, number: str) -> None:
    if function == "at_once":
        import celery  # noqa: F401  (as much as a run has in memory)
        import django.db.models  # noqa: F401

    works: dict[str, Any] = {"cycle": cycle, "at_once": at_once}
    json.dump(works[function](Path(folder), int(number)), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
