"""The one clock: the database's.

Leases, deadlines and schedules of all hosts are judged by PostgreSQL's clock, so a
worker whose own clock is wrong decides nothing.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """The database's time, aware (UTC)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (value,) = cursor.fetchone()
    assert isinstance(value, datetime)
    return value
