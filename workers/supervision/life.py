"""The process of a run as its supervisor knows it: one state, its moves, and what it is still to be told.

The rule: only a process that is at work is signaled. What comes at another time is kept, and told when it is at work.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from enum import Enum
from typing import Final

from checkpoint import RestoreFailed, Sandbox, processes
from checkpoint.line import Hung
from workers import messages
from workers.messages import Woken


class State(Enum):
    """Where a run's process is."""

    UNBORN = "unborn"
    """Nowhere yet."""
    BORN = "born"
    """It has its job, and has not begun it."""
    AT_WORK = "at work"
    """In the function, and has never waited."""
    STANDING = "standing"
    """Still, at a wait or in the middle of its work: it can be dumped."""
    WOKEN = "woken"
    """In the function again: what it holds by now is for no other run."""
    OVER = "over"
    """Killed or let go: its pid is somebody else's soon."""


MOVES: Final = {
    State.UNBORN: {State.BORN, State.WOKEN, State.OVER},
    State.BORN: {State.AT_WORK, State.OVER},
    State.AT_WORK: {State.STANDING, State.OVER},
    State.STANDING: {State.WOKEN, State.OVER},
    State.WOKEN: {State.STANDING, State.OVER},
    State.OVER: set[State](),
}
AWAKE: Final = {State.AT_WORK, State.WOKEN}
"""It may be signaled."""


class OutOfTurn(Hung):
    """The process did what it cannot do where it is: it is given up like one that says nothing."""


class Life:
    """A run's process, from before it is there until it is gone."""

    def __init__(self) -> None:
        self.state = State.UNBORN
        self._process: Sandbox | None = None
        self._untold: set[signal.Signals] = set()

    @property
    def process(self) -> Sandbox:
        assert self._process is not None, "it is not born"
        return self._process

    def begin(self, process: Sandbox, state: State) -> None:
        """It is there: forked, or restored and woken."""
        self._process = process
        os.set_blocking(process.output, False)
        self.move(state)

    def move(self, to: State) -> None:
        """The one door from state to state. Raises `OutOfTurn` for a move that there is not."""
        if to not in MOVES[self.state]:
            raise OutOfTurn(f"a process that is {self.state.value} cannot be {to.value}")
        self.state = to
        while self._untold and self.state in AWAKE:
            self._send(self._untold.pop())

    def tell(self, number: signal.Signals) -> None:
        """Signal it, now or as soon as it is at work; also called by a signal's handler."""
        if self.state in AWAKE:
            self._send(number)
        elif self.state is not State.OVER:
            self._untold.add(number)

    def wake(self, woken: Woken) -> None:
        """It goes on here. Raises `Hung`, and it is gone, if it does not call back."""
        processes.thaw(self.process.pid)
        try:
            self.process.wake(messages.pack(woken), restored=False)
        except RestoreFailed as problem:
            self.move(State.OVER)
            raise Hung(str(problem)) from problem
        self.move(State.WOKEN)

    def let_go(self) -> Sandbox:
        """It is nobody's now; for another run, or to be released."""
        self.move(State.OVER)
        return self.process

    def end(self) -> None:
        """Kill it, once."""
        if self.state is not State.OVER:
            self.move(State.OVER)
            self.process.end()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
