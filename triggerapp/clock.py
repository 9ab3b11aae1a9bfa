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
"""What it said last, and when that was."""


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
    if _told is None or time.monotonic() - _told[1] >= _ASKED_AGAIN:
        _told = now(), time.monotonic()
    moment, at = _told
    return moment + timedelta(seconds=time.monotonic() - at)
