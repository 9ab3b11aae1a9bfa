"""Hearing what a run says: a handler on the loggers, and an ear on the standard streams.

It is put in place once for each process, and asks with each record and each print whose code that is. Nobody's: nothing
is done.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TextIO

from triggerapp import conf
from triggerapp.engine.logs import Line
from workers import context, journal, logs

if TYPE_CHECKING:
    from workers.attempt import Attempt

_REDIRECTED: Final = "celery.redirected"
_STREAMS: Final = {"stdout": logging.INFO, "stderr": logging.WARNING}


class Ear(logging.Handler):
    """Hears what is logged in a run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if it is a run that says it."""
        attempt = _speaker()
        if attempt is None or record.name == _REDIRECTED:  # that is what is printed, which is heard where it is
            return
        try:
            attempt.log.add(_line(attempt, record.levelno, record.name, _text(record)))
        except Exception:  # noqa: BLE001  (as every handler of logging)
            self.handleError(record)


_FORMATTER: Final = logging.Formatter()


def _text(record: logging.LogRecord) -> str:
    """Message and traceback."""
    return _FORMATTER.format(record)


class Mouth:
    """A standard stream: passes on what is written to it, and keeps what a run prints."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """As the stream does."""
        written = self._stream.write(text)
        attempt = _speaker()
        if attempt is not None and sys._getframe(1).f_globals.get("__name__") != "logging":  # heard as a record
            attempt.log.add_printed(_line(attempt, _STREAMS[self._name], self._name, text))
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        """As the stream does."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)


def _speaker() -> Attempt | None:
    """The attempt whose code this is."""
    return None if logs.deaf.depth else context.speaker()


def _line(attempt: Attempt, level: int, logger: str, text: str) -> Line:
    whole = text if logger in _STREAMS or len(text) <= logs.LONGEST else text[: logs.LONGEST] + " …"
    return Line(
        at=time.time(), level=level, logger=logger, text=whole, attempt=attempt.number, step=journal.enclosing()
    )


def listen(**_: object) -> None:
    """Hear what is logged and printed in this process from now on; again after Celery has set up its logging anew.

    The loggers of tasks pass nothing on to the root logger, and have an ear of their own.
    """
    if conf.get().LOGS != "on":
        return
    for logger in (logging.root, logging.getLogger("celery.task")):
        deaf = not any(isinstance(handler, Ear) for handler in logger.handlers)
        if deaf and (logger is logging.root or not logger.propagate):
            logger.addHandler(Ear())
    for name in _STREAMS:
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Mouth):
            setattr(sys, name, Mouth(stream, name))
