"""What a run says is kept: records of `logging`, and what is printed.

A run that says nothing costs nothing. Lines are gathered and written in batches: by a thread with a connection of its
own, never in the user's transaction, and once more before the run leaves. They are no state: what cannot be written is
given up after a while.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from django.db import connection

from triggerapp import conf
from triggerapp.engine import logs
from triggerapp.engine.logs import CUT, Line
from triggerapp.engine.runs import Claimed
from workers.patience import UNANSWERED

log = logging.getLogger(__name__)

PAUSE: Final = 0.5
"""Seconds between two writings."""
LONGEST: Final = 16_384
"""Characters of one line."""
_BATCH: Final = 1000
_TRIES: Final = 60


class Log:
    """Where the lines of one attempt go. This one hears nothing: of eager runs, and where it is switched off."""

    def add(self, line: Line) -> None:
        """Take a line."""

    def add_printed(self, line: Line) -> None:
        """Take a piece of text of a stream, which is named as the logger."""

    def hear(self, line: Line | None) -> None:
        """Take a line that was passed on; None: all is to be written now."""
        if line is None:
            self.flush()
        else:
            self.add(line)

    def flush(self) -> None:
        """Have it written what was said so far."""

    def end(self) -> None:
        """There will be no more."""


SILENT: Final = Log()


class Room:
    """How much a run may still say."""

    def __init__(self, lines: int, size: int, *, is_over: bool = False) -> None:
        self._lines = lines
        self._size = size
        self._is_over = is_over

    def admit(self, line: Line) -> Line | None:
        """The line; in the place of the first one that has no room, one that says so; after it None."""
        if self._is_over:
            return None
        self._lines -= 1
        self._size -= len(line.text.encode("utf-8", "replace"))
        if self._lines > 0 and self._size >= 0:
            return line
        self._is_over = True
        limits = conf.get()
        text = (
            f"No more of this run's lines is kept: it may have {limits.LOG_LINES:,} lines and {limits.LOG_BYTES:,} "
            "bytes (TRIGGERAPP['LOG_LINES'], ['LOG_BYTES']). The worker's own log has all."
        )
        return replace(line, level=logging.WARNING, logger=CUT, text=text)


class _Lines(Log):
    """A log that is heard: pieces of printed text become lines."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        # A signal's handler may print too.
        self._lock = threading.RLock()
        self._begun: dict[str, tuple[str, Line]] = {}

    def add_printed(self, line: Line) -> None:
        """Add each line that is complete now."""
        with self._lock:
            begun, _ = self._begun.pop(line.logger, ("", line))
            *whole, rest = (begun + line.text).split("\n")
            if len(rest) > LONGEST:
                whole, rest = [*whole, rest], ""
            if rest:
                self._begun[line.logger] = rest, line
        for text in whole:
            if text.strip():
                self.add(replace(line, text=text[:LONGEST]))

    def end(self) -> None:
        """Lines that were not ended are complete too."""
        with self._lock:
            rests, self._begun = list(self._begun.values()), {}
        for text, line in rests:
            self.add(replace(line, text=text))
        self.flush()


class Teller(_Lines):
    """Of a run process: passes lines on to its supervisor, who writes them."""

    def __init__(self, tell: Callable[[Line | None], None]) -> None:
        super().__init__()
        self._tell = tell
        self._room = Room(conf.get().LOG_LINES, conf.get().LOG_BYTES)
        self._has_told = False

    def add(self, line: Line) -> None:
        """Pass it on."""
        with self._lock:
            admitted = self._room.admit(line)
        if admitted is not None:
            self._has_told = True
            self._tell(admitted)

    def flush(self) -> None:
        """Have the supervisor write now."""
        if self._has_told:
            self._has_told = False
            self._tell(None)


class Gatherer(_Lines):
    """Keeps lines until they are written."""

    def __init__(self, claimed: Claimed) -> None:
        super().__init__()
        self._claimed = claimed
        self._lines: deque[Line] = deque()
        self._room = Room(conf.get().LOG_LINES, conf.get().LOG_BYTES)
        self._knows_room = not claimed.again
        self._writing = threading.Lock()

    def add(self, line: Line) -> None:
        """Keep it for the next writing. A fork of this process, made by the user's code, has nothing to write."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            admitted = self._room.admit(line)
            if admitted is None:
                return
            self._lines.append(admitted)
        _writer.look_after(self)

    def flush(self) -> None:
        """Write what there is, unless the caller is in a transaction: it is not to be rolled back with that."""
        if self._lines and not connection.in_atomic_block:
            self.write()

    def write(self) -> bool:
        """Write what there is; False if it has to be tried again. What is said by the writing is not heard."""
        with self._writing, deaf:
            try:
                while batch := self._batch():
                    logs.write(self._claimed.run_id, batch, lease=self._claimed.lease)
                    for _ in batch:
                        self._lines.popleft()
            except UNANSWERED:
                return False
            except Exception:
                self._lines.clear()
                log.exception("lines of run %s were not kept", self._claimed.run_id)
        return True

    def _batch(self) -> list[Line]:
        if not self._knows_room:
            self._find_room()
        return [self._lines[n] for n in range(min(_BATCH, len(self._lines)))]

    def _find_room(self) -> None:
        """The run has been here before: what it said then counts."""
        kept, limits = logs.kept(self._claimed.run_id), conf.get()
        with self._lock:
            self._knows_room = True
            if not kept.lines:
                return
            said, self._lines = list(self._lines), deque()
            self._room = Room(limits.LOG_LINES - kept.lines, limits.LOG_BYTES - kept.size, is_over=kept.is_cut)
            self._lines.extend(filter(None, map(self._room.admit, said)))

    @property
    def is_empty(self) -> bool:
        """Whether all is written."""
        return not self._lines

    def give_up(self) -> None:
        """Forget what cannot be written."""
        log.warning("%d lines of run %s were not kept", len(self._lines), self._claimed.run_id)
        self._lines.clear()


class _Deaf(threading.local):
    """While a thread is in it, nothing it says is heard."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


deaf = _Deaf()


class _Writer:
    """Writes all that is gathered in this process, while there is any."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._logs: dict[Gatherer, int] = {}
        self._thread: threading.Thread | None = None

    def look_after(self, gatherer: Gatherer) -> None:
        """See that it is written soon."""
        if gatherer in self._logs:
            return
        with self._lock:
            self._logs.setdefault(gatherer, 0)
            if self._thread is None or not self._thread.is_alive():  # a forked process has no threads
                self._thread = threading.Thread(target=self._run, name="triggerapp-logs", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with deaf:
            try:
                while self._is_wanted():
                    time.sleep(PAUSE)
                    self._write()
            finally:
                connection.close()

    def _is_wanted(self) -> bool:
        with self._lock:
            if not self._logs:
                self._thread = None
            return bool(self._logs)

    def _write(self) -> None:
        """A log is left as soon as it is empty; its next line brings it back."""
        for gatherer in list(self._logs):
            if gatherer.is_empty or gatherer.write():
                self._leave(gatherer)
                continue
            self._logs[gatherer] += 1
            connection.close()
            if self._logs[gatherer] >= _TRIES:
                gatherer.give_up()

    def _leave(self, gatherer: Gatherer) -> None:
        """Whoever added a line before it was left took it for looked after; whoever adds one later brings it back."""
        with self._lock:
            tries = self._logs.pop(gatherer)
            if not gatherer.is_empty:
                self._logs[gatherer] = tries


_writer = _Writer()


def of(claimed: Claimed) -> Log:
    """Where the lines of this run go, from the process that has its message."""
    return Gatherer(claimed) if conf.get().LOGS == "on" else SILENT
