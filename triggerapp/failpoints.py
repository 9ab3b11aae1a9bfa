"""Named points where a test can make this process die or fail.

Off unless the environment variable `TRIGGERAPP_FAIL` sets them: `name:kill9@3` kills this
process with SIGKILL the third time `name` is reached, `name:raise@p=0.05` raises at random,
`name:stop` stops it (SIGSTOP). Several are joined by `;`, `seed=7` fixes the dice. `count=FILE`
appends the name of each point reached, so that a sweep knows what there is to fail at.
With `once=FILE` at most one point fires over all processes: the first creates the file.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field


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
    rules: list[_Rule] = field(default_factory=list)
    count_file: str = ""
    once_file: str = ""
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


def _parse(text: str) -> _Plan:
    plan = _Plan()
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
        _append(plan.count_file, name)
    for rule in plan.rules:
        if rule.name in (name, "*") and rule.fires(count=plan.counts[name], dice=plan.dice) and _first(plan):
            _ACTIONS[rule.action](name)


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


_ACTIONS = {
    "kill9": lambda name: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda name: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _raise,
}
_PLAN: _Plan | None = None
load(os.environ.get("TRIGGERAPP_FAIL", ""))
