"""Cron expressions in a time zone: five fields, read and evaluated by cronsim, by the rules of Debian's cron.

What has no local time on the day that clocks go forward runs right after the gap; what comes twice when they go back
runs once, unless it runs every hour or minute.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from triggerapp.engine import limits
from triggerapp.errors import BadInput

_FIELDS = 5
# cronsim has an error of its own for most of what is no expression, and trips over some of it.
_NO_CRON = (CronSimError, AssertionError, TypeError, ValueError, LookupError)


@lru_cache(maxsize=1)
def timezones() -> tuple[str, ...]:
    """The names of the time zones that this host knows, UTC first."""
    return ("UTC", *sorted(zoneinfo.available_timezones() - {"UTC", "localtime"}))


def check(cron: str, timezone: str) -> None:
    """Raises `BadInput` for what is no expression, no time zone, or never due."""
    limits.check_text("timezone", timezone, most=64)
    if timezone not in timezones():
        raise BadInput(f"timezone={timezone!r} is unknown: use a name such as 'UTC' or 'Europe/Berlin'")
    limits.check_text("cron", cron)
    if len(cron.split()) != _FIELDS:
        raise BadInput(
            f"cron={cron!r:.80} must have {_FIELDS} fields: minute, hour, day of month, month, day of week "
            "(as in '0 9 * * MON-FRI')"
        )
    try:
        first = next(_from(cron, timezone, datetime(2026, 1, 1, tzinfo=UTC)), None)
    except _NO_CRON as error:
        raise BadInput(f"cron={cron!r:.80} is no cron expression: {error or 'it cannot be read'}") from error
    if first is None:
        raise BadInput(f"cron={cron!r:.80} is never due: there is no such day")


def upcoming(cron: str, timezone: str, after: datetime, count: int) -> list[datetime]:
    """The next `count` times after a moment, in UTC."""
    found = (due.astimezone(UTC) for due in _from(cron, timezone, after))
    # In the hour that comes twice cronsim names the first 01:30 after the second 01:15, which was 45 minutes before.
    return list(islice((due for due in found if due > after), count))


def following(cron: str, timezone: str, after: datetime) -> datetime | None:
    """The next time after a moment."""
    return next(iter(upcoming(cron, timezone, after, 1)), None)


def _from(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    return CronSim(cron, after.astimezone(UTC if timezone == "UTC" else ZoneInfo(timezone)))


def describe(cron: str) -> str:
    """In words, such as "At 09:00 on Monday"."""
    try:
        return CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)).explain()
    except _NO_CRON:
        return cron
