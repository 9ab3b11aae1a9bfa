"""A process that holds something over a wait: it is dumped, killed, and restored. For tests."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Generator

import pytest

from checkpoint import require_dumpable, sandbox
from checkpoint.errors import Refused
from checkpoint.line import Line
from checkpoint.sandbox import Sandbox
from tests.checkpoint.freezing import SOON, Freezer

Holding = Callable[[], Generator[None, None, object]]
"""Takes hold of something, yields where it waits, and returns what it finds afterwards."""


class Held:
    """Processes that hold something over a wait."""

    def __init__(self, run: Callable[[Callable[[Line], None]], Sandbox], freezer: Freezer) -> None:
        self._run = run
        self._freezer = freezer

    def across(self, holding: Holding, meanwhile: Callable[[], object] = lambda: None) -> object:
        """What `holding` returns after its process was dumped, killed and restored; its error as a text."""
        process = self._standing(holding)
        require_dumpable(process.pid, external=[process.inode])
        label, _ = self._freezer.freeze(process)
        meanwhile()
        again = self._freezer.thaw(label)
        found: object = json.loads(again.await_park(timeout=SOON))
        again.end()
        return found

    def refusal(self, holding: Holding) -> str:
        """Why `holding` cannot be dumped; it goes on here, and returns what it should."""
        process = self._standing(holding)
        with pytest.raises(Refused) as caught:
            require_dumpable(process.pid, external=[process.inode])
        process.wake(restored=False)
        assert json.loads(process.await_park(timeout=SOON)) == "went on"
        process.end()
        return caught.value.message

    def _standing(self, holding: Holding) -> Sandbox:
        process = self._run(lambda line: _hold(line, holding))
        process.await_park(timeout=SOON)
        return process


def _hold(line: Line, holding: Holding) -> None:
    held = holding()
    next(held)
    gc.collect()
    sandbox.park(line)
    try:
        next(held)
    except StopIteration as end:
        found = end.value
    except Exception as problem:
        found = f"{type(problem).__name__}: {problem}"
    sandbox.park(line, json.dumps(found).encode())
