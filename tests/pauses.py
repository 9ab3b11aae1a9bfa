"""Random pauses around what other processes can see: they find what counts on an order that nobody keeps.

`PAUSES=0.05,0.3 pytest tests/acceptance` lets up to 0.3 s pass before and after one in twenty queries, commits and
messages, in the tests and in their workers. A test that fails then fails some day on a busy machine, too.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from celery.app.trace import TraceInfo
from redis.connection import AbstractConnection

_SWITCH: Final = "PAUSES"
_SEEN: Final[tuple[tuple[type, str], ...]] = (
    (psycopg.Cursor, "execute"),
    (psycopg.Connection, "commit"),
    (AbstractConnection, "send_packed_command"),
    (AbstractConnection, "read_response"),
    (TraceInfo, "handle_retry"),
    (TraceInfo, "handle_failure"),
)


def install() -> None:
    """Pause in this process from now on, if the environment says so."""
    if wanted := os.environ.get(_SWITCH):
        likely, longest = map(float, wanted.split(","))
        for owner, name in _SEEN:
            setattr(owner, name, _pausing(getattr(owner, name), likely, longest))


def _pausing(call: Callable[..., Any], likely: float, longest: float) -> Callable[..., Any]:
    dice = random.SystemRandom()  # a forked process is not to pause where its parent does

    def pause() -> None:
        if dice.random() < likely:
            time.sleep(longest * dice.random())

    @functools.wraps(call)
    def with_pauses(*args: Any, **kwargs: Any) -> Any:
        pause()
        try:
            return call(*args, **kwargs)
        finally:
            pause()

    return with_pauses
