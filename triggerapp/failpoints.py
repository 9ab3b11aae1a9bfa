"""Named points where a test can make this process die or fail.

Off unless the environment variable `TRIGGERAPP_FAIL` sets them: `name:kill9@3` kills this
process with SIGKILL the third time it reaches `name`, `name:kill9worker` kills the whole worker it
belongs to (main process, pool, run processes and ticker), `name:stop` stops it (SIGSTOP),
`name:raise@p=0.05` raises at random. A name may say in which process: `pool/name`, `run/name`,
`ticker/name` or `main/name`; `*` is any point. Several are joined by `;`, `seed=7` fixes the dice.
`count=FILE` appends process and name of each point reached, so that a sweep knows what there is to
fail at. With `once=FILE` at most one point fires over all processes: the first creates the file.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

_ZYGOTE_OF = "TRIGGERAPP_ZYGOTE_OF"
"""In the environment of a zygote and what it forks: the worker that they are of."""
_PR_SET_PDEATHSIG = 1
_STILL = "TtZXD"
"""States in which a process does nothing more once it is told to stop. D: its child of a `vfork` is stopped."""


class _Process(NamedTuple):
    state: str
    parent: int


class FailpointError(RuntimeError):
    """Raised on purpose by a failpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    name: str
    action: str
    occurrence: int | None
    probability: float

    def fires(self, *, count: int, dice: random.Random) -> bool:
        if self.occurrence is not None:
            return count == self.occurrence
        return dice.random() < self.probability


@dataclass(slots=True)
class _Plan:
    text: str
    rules: list[_Rule] = field(default_factory=list)
    count_file: str = ""
    once_file: str = ""
    worker: int = 0
    """The worker's main process; its pool inherits this plan."""
    dice: random.Random = field(default_factory=random.Random)
    counts: Counter[str] = field(default_factory=Counter)


def point(name: str) -> None:
    """Do nothing, unless `TRIGGERAPP_FAIL` says otherwise."""
    if _PLAN is not None:
        _reach(_PLAN, name)


def load(text: str) -> None:
    """Read a plan in the form of `TRIGGERAPP_FAIL`; an empty text switches all points off."""
    global _PLAN
    _PLAN = _parse(text) if text else None


def load_again(text: str) -> None:
    """Read the plan of the worker that has restored this process; what was counted by the same plan stays counted."""
    before = _PLAN
    load(text)
    if _PLAN is not None and before is not None and before.text == text:
        _PLAN.counts, _PLAN.dice = before.counts, before.dice


def _parse(text: str) -> _Plan:
    plan = _Plan(text=text, worker=os.getppid() if _is_ticker() else int(os.environ.get(_ZYGOTE_OF, os.getpid())))
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        if part.startswith("seed="):
            plan.dice.seed(int(part[5:]))
        elif part.startswith("count="):
            plan.count_file = part[6:]
        elif part.startswith("once="):
            plan.once_file = part[5:]
        else:
            plan.rules.append(_rule(part))
    return plan


def _rule(text: str) -> _Rule:
    name, _, rest = text.partition(":")
    action, _, when = rest.partition("@")
    if action not in _ACTIONS:
        raise ValueError(f"TRIGGERAPP_FAIL: {text!r}: the action is one of {', '.join(_ACTIONS)}, as in name:kill9@3")
    if when.startswith("p="):
        return _Rule(name=name, action=action, occurrence=None, probability=float(when[2:]))
    return _Rule(name=name, action=action, occurrence=int(when or 1), probability=0.0)


def _reach(plan: _Plan, name: str) -> None:
    plan.counts[name] += 1
    if plan.count_file:
        _append(plan.count_file, f"{_process(plan)}/{name}")
    for rule in plan.rules:
        named = rule.name in ("*", name, f"{_process(plan)}/{name}")
        if named and rule.fires(count=plan.counts[name], dice=plan.dice) and _first(plan):
            _ACTIONS[rule.action](name)


def _is_ticker() -> bool:
    return "TRIGGERAPP_TICKER" in os.environ


def _process(plan: _Plan) -> str:
    if _is_ticker():
        return "ticker"
    if _ZYGOTE_OF in os.environ:
        return "run"
    return "main" if os.getpid() == plan.worker else "pool"


def _append(path: str, name: str) -> None:
    with open(path, "a") as file:
        file.write(f"{name}\n")


def _first(plan: _Plan) -> bool:
    if not plan.once_file:
        return True
    try:
        os.close(os.open(plan.once_file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _raise(name: str) -> None:
    raise FailpointError(name)


def _kill_worker(name: str) -> None:
    """Kill all of the worker, as a power cut would: stopped first, so that none sees another die, and this one last."""
    assert _PLAN is not None
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)  # else the rest would be left stopped by who dies with one
    for pid in reversed(_stop(_PLAN.worker)):
        _signal(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(root: int) -> list[int]:
    """All of this family but this process, eldest first; they stand still. Some end meanwhile, and some are born."""
    before: list[int] = []
    while True:
        there = _processes()
        family = [pid for pid in _descent(root, there) if pid != os.getpid()]
        running = [pid for pid in family if there[pid].state not in _STILL]
        if not running and family == before:
            return family
        for pid in running:
            _signal(pid, signal.SIGSTOP)
        before = family


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # CRIU has children that live for a moment
        os.kill(pid, number)


def _family(root: int) -> list[int]:
    """A process and its descendants, eldest first."""
    return _descent(root, _processes())


def _descent(root: int, there: Mapping[int, _Process]) -> list[int]:
    family = [root] if root in there else []
    for pid in family:
        family += [child for child, process in there.items() if process.parent == pid]
    return family


def _processes() -> dict[int, _Process]:
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # gone meanwhile
            state, parent, _ = stat.read().rpartition(b")")[2].split(maxsplit=2)
            found[int(name)] = _Process(state.decode(), int(parent))
    return found


_ACTIONS = {
    "kill9": lambda name: os.kill(os.getpid(), signal.SIGKILL),
    "kill9worker": _kill_worker,
    "stop": lambda name: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _raise,
}
_PLAN: _Plan | None = None
load(os.environ.get("TRIGGERAPP_FAIL", ""))
