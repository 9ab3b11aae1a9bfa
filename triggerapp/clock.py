"""The one clock: the database's.

Leases, deadlines and schedules of all hosts are judged by PostgreSQL's clock, so a
worker whose own clock is wrong decides nothing.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

_ASKED_AGAIN: Final = 60.0
"""Seconds after which the database is asked again for the time that pages show."""
_told: tuple[datetime, float] | None = None
"""What it said last, and when it was asked."""
_passed = time.monotonic
"""Seconds, of which only the difference of two says anything."""


def now() -> datetime:
    """The database's time, aware (UTC)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (value,) = cursor.fetchone()
    assert isinstance(value, datetime)
    return value


def about_now() -> datetime:
    """The database's time as it is shown: what it said within the last minute, and what has passed since.

    So a page costs no query for it, and nothing is judged by it.
    """
    global _told
    if _told is None or _passed() - _told[1] >= _ASKED_AGAIN:
        began = _passed()  # before it answers: a time that lags has rows which are yet to come
        _told = now(), began
    moment, at = _told
    return moment + timedelta(seconds=_passed() - at)
