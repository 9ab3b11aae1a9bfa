"""What a run process logs and prints, on its way to the log of its worker."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from billiard import current_process

from workers.messages import Logged

_FIELDS: Final = frozenset(vars(logging.makeLogRecord({})))


class Forwarder(logging.Handler):
    """Sends records to the supervisor, whose handlers write them as they write its own."""

    def __init__(self, tell: Callable[[Logged], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Send it; a line that is gone is no business of who logs."""
        try:
            self._tell(Logged(portable(record)))
        except Exception:  # noqa: BLE001  (as every handler of logging)
            self.handleError(record)


def portable(record: logging.LogRecord) -> logging.LogRecord:
    """The record without what does not pickle: its text is made here; of what was added plain values stay."""
    text = record.getMessage()
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    plain = {
        name: value
        for name, value in vars(record).items()
        if name in _FIELDS or isinstance(value, str | int | float | bool | None)
    }
    return logging.makeLogRecord({**plain, "msg": text, "args": None, "exc_info": None})


def log_again(record: logging.LogRecord) -> None:
    """Write a record that came over."""
    record.processName = current_process().name
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def print_again(output: int) -> bool:
    """Print what was printed at the other end of this pipe; False if there will be no more."""
    with suppress(BlockingIOError):
        while printed := os.read(output, 1 << 16):
            os.write(2, printed)
        return False
    return True
