"""The recorded past of a run, as it is known in the process that runs it.

It gives every step, wait and trigger its identity, and answers for those that are done. Identity is
a name and its occurrence within what encloses it (`charge_card#1`, `ship#2/print_label#1`), or the
caller's key: the same in every entry of the function, whatever thread asks.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import UUID

from triggerapp.errors import BadInput, BadType
from workers import codec
from workers.errors import JournalMismatch, KeyTaken

Row = Mapping[str, Any]
PAUSE = ":retry#"
"""In the key of a wait between two tries of a step: its step before it, which tries behind it."""
_MOST = 255
_NAME = 120
_BLAMED = "triggerapp_steps"

_path: ContextVar[str] = ContextVar("triggerapp_step", default="")
_in_step: ContextVar[bool] = ContextVar("triggerapp_in_step", default=False)
_tries: ContextVar[tuple[int, ...]] = ContextVar("triggerapp_tries", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A step that is done."""

    digest: str
    value: str | None
    error: str | None
    carried_over: bool = False
    """By another run, which this one replays from a later step."""

    def outcome(self, key: str, digest: str) -> object:
        """The recorded value; raises the recorded exception, or `JournalMismatch` for other arguments."""
        if digest != self.digest and not self.carried_over:
            raise JournalMismatch(key, self.digest, current=digest)
        if self.error is not None:
            recorded = json.loads(self.error)
            raise blame(codec.load_error(recorded), [*recorded["steps"], key])
        return None if self.value is None else codec.loads(self.value)


class Journal:
    """What a run has done, and the names of what it is about to do."""

    def __init__(self, *, steps: Sequence[Row], waits: Sequence[Row], children: Sequence[Row]) -> None:
        self.steps: dict[str, Recorded] = {}
        self.undoable: set[str] = set()
        """The steps with a rollback that has not run."""
        self.undone: set[str] = set()
        self.waits: dict[str, Row] = {}
        self.children: dict[str, tuple[UUID, str]] = {}
        self._seen: Counter[str] = Counter()
        self._asked: dict[tuple[str, str], str] = {}
        """What this entry of the function has called: "step" or "wait" and the key, with the digest of the call."""
        self._lock = Lock()
        self.learn(steps=steps, waits=waits, children=children)
        self.is_repeating = any(step.carried_over for step in self.steps.values())
        """Whether the code is still where all was done by the run that this one replays."""

    def learn(self, *, steps: Sequence[Row], waits: Sequence[Row], children: Sequence[Row]) -> None:
        """Know what is recorded, in the place of what was known before."""
        carried = [{**json.loads(row["value"]), "key": row["key"]} for row in steps if not row["digest"]]
        steps = [row for row in steps if row["digest"]]
        self.steps = {row["key"]: _recorded(row) for row in steps}
        self.undone = {row["key"] for row in steps if row["undone"] or _is_carried_over(row)}
        self.undoable = {row["key"] for row in steps if row["undoable"]} - self.undone
        self.waits = {row["key"]: row for row in waits}
        self.children = {row["key"]: (UUID(row["id"]), str(row["task_id"])) for row in [*carried, *children]}

    def recall(self, key: str) -> Recorded | None:
        """What is recorded of a step, if anything is."""
        found = self.steps.get(key)
        self.is_repeating = self.is_repeating and found is not None and found.carried_over
        return found

    def ask(self, what: str, key: str, digest: str) -> None:
        """Note a call. Raises `KeyTaken` if this entry of the function has used its key for another one."""
        with self._lock:
            before = self._asked.setdefault((what, key), digest)
        if before != digest:
            raise KeyTaken(key, before, current=digest)

    def begin_again(self, key: str, failed: Sequence[str]) -> None:
        """Name what the next try of `key` calls as the last try did, and forget the `failed` steps."""
        with self._lock:
            for name in [name for name in self._seen if name.startswith(f"{key}/")]:
                del self._seen[name]
            for what, name in [asked for asked in self._asked if asked[1].startswith(f"{key}/")]:
                del self._asked[what, name]
        for step in failed:
            self.steps.pop(step, None)

    def identify(self, name: str, key: str | None = None) -> str:
        """The identity of the next call of `name`, or of the call with the caller's `key`."""
        path = _path.get()
        if key is not None:
            return path + _checked(key, within=_MOST - len(path))
        with self._lock:
            self._seen[path + name] += 1
            return _checked(f"{path}{_short(name)}#{self._seen[path + name]}")


def _recorded(row: Row) -> Recorded:
    return Recorded(digest=row["digest"], value=row["value"], error=row["error"], carried_over=_is_carried_over(row))


def _is_carried_over(row: Row) -> bool:
    """No attempt of this run made it (see `triggerapp.engine.carrying`)."""
    return not row["attempt"]


def name_of(fn: Callable[..., Any]) -> str:
    """What a step is called after: the function, also behind `partial` or a Celery task."""
    inner = getattr(fn, "func", fn)
    name = getattr(inner, "__name__", None) or type(inner).__name__
    return str(name)


def _checked(key: str, *, within: int = _MOST) -> str:
    if not isinstance(key, str):
        raise BadType(f"key={key!r:.80}: the key of a step or wait is a text, such as key='order-7'")
    if not 0 < len(key) <= within or "\0" in key:
        raise BadInput(f"the key {key[:80]!r}… of a step or wait must have 1 to {_MOST} characters and no NUL")
    return key


def _short(name: str) -> str:
    """A name of ours may hold one of the user's, an event's, that fills its own column."""
    return name if len(name) <= _NAME else f"{name[:_NAME]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@contextmanager
def inside(key: str, *, is_step: bool = True) -> Iterator[None]:
    """What is called within a step, or within a task that is called in place, has its identity within that."""
    path, step = _path.set(f"{key}/"), _in_step.set(is_step or _in_step.get())
    try:
        yield
    finally:
        _path.reset(path)
        _in_step.reset(step)


@contextmanager
def trying(number: int) -> Iterator[None]:
    """What is called within is in this try of the step."""
    before = _tries.set((*_tries.get(), number))
    try:
        yield
    finally:
        _tries.reset(before)


def tries(attempt: int) -> str:
    """The attempt, and which try of each enclosing step is in progress: `2.1`."""
    return ".".join(map(str, (attempt, *_tries.get())))


def local(key: str) -> str:
    """A whole key as it is called where the code stands, within the step in progress."""
    return key.removeprefix(_path.get())


def is_pause(key: str) -> bool:
    """Whether this wait is the pause between two tries of a step, and none of the function's own."""
    return PAUSE in key.rpartition("/")[2]


def in_step() -> bool:
    """Whether a step or a rollback is in progress."""
    return _in_step.get()


def enclosing() -> str:
    """The key of the step in progress; empty outside of steps."""
    return _path.get().rstrip("/")


def blame(exc: BaseException, steps: Sequence[str]) -> BaseException:
    """Note on an exception which steps raised it, so that the next try or attempt makes their calls again."""
    noted = exc.__dict__.get(_BLAMED, [])
    exc.__dict__[_BLAMED] = [*noted, *(step for step in steps if step not in noted)]
    return exc


def failed_steps(exc: BaseException | None) -> list[str]:
    """The steps whose exceptions led to `exc`."""
    found: list[str] = []
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        found += [step for step in exc.__dict__.get(_BLAMED, ()) if step not in found]
        exc = exc.__cause__ or exc.__context__
    return found
