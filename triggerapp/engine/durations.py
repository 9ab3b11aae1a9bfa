"""Durations as Trigger.dev writes them: `30s`, `1h30m`, `2w`; a moment is ISO 8601 with a time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from triggerapp.errors import BadInput

_PARTS = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)hr?)?(?:(\d+)m)?(?:(\d+)s)?")
_NAMES = ("weeks", "days", "hours", "minutes", "seconds")
_LETTERS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_LONGEST_TEXT = 40
_DATE = re.compile(r"[+-]?\d{4,}-")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_A_DURATION = "a duration such as '30s', '1h30m' or '2w'"
_A_MOMENT = "a moment such as '2026-01-31T12:00:00Z'"

LONGEST = timedelta(days=100 * 365)
FIRST_DUE, _NOT_DUE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""What is due before or after was not meant: seconds taken for milliseconds, a date that was never set."""


def text(length: timedelta) -> str:
    """As people write it: `1h30m`, `-5s`."""
    rest, found = abs(length), ""
    for letter, unit in _LETTERS.items():
        count, rest = divmod(rest, unit)
        found += f"{count}{letter}" if count else ""
    if rest or not found:
        found += f"{rest.total_seconds():.10g}s"
    return f"-{found}" if length < timedelta() else found


def duration(name: str, value: Any, *, unit: str = "seconds", otherwise: str = "") -> timedelta:
    """A text of units, or a number of one: of seconds, unless it is said. Neither negative nor beyond `LONGEST`."""
    try:
        found = _length(value, unit)
    except (OverflowError, ValueError) as error:
        raise BadInput(f"{name}={value!r:.60} is longer than {LONGEST.days // 365} years{otherwise}") from error
    if found is None:
        given = f"{name} is missing; it" if value is None else f"{name}={value!r:.60}"
        raise BadInput(f"{given} must be {_A_DURATION}, or a number of {unit}{otherwise}")
    check(name, found)
    return found


def check(name: str, length: timedelta) -> None:
    """Refuse a length of time that nothing has."""
    if length < timedelta():
        raise BadInput(f"{name}={text(length)} is negative")
    if length > LONGEST:
        raise BadInput(f"{name}={text(length)} is longer than {LONGEST.days // 365} years")


def _length(value: Any, unit: str) -> timedelta | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(**{unit: value})
    found = _PARTS.fullmatch(value) if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT else None
    if found is None:
        return None
    return timedelta(**{each: int(n) for each, n in zip(_NAMES, found.groups(), strict=True) if n})


def deadline(name: str, value: Any) -> timedelta | datetime:
    """A duration from now, or a moment at which something is to happen."""
    if isinstance(value, str) and _DATE.match(value):
        return due(name, value)
    return duration(name, value, otherwise=f"; or {_A_MOMENT}")


def due(name: str, value: Any) -> datetime:
    """A moment at which something is to happen: one that has passed is now, one that nobody means is refused."""
    found = moment(name, value)
    check_due(name, found, shown=f"{value!r:.60}")
    return found


def check_due(name: str, at: datetime, *, shown: str = "") -> None:
    """Refuse a moment at which nobody means anything to happen; `shown` is what they wrote."""
    if not FIRST_DUE <= at < _NOT_DUE:
        raise BadInput(
            f"{name}={shown or at.isoformat()} is in the year {at.year}; it must be {_A_MOMENT}, "
            f"from {FIRST_DUE.year} to {_NOT_DUE.year - 1}"
        )


def moment(name: str, value: Any) -> datetime:
    """A moment in ISO 8601, or the milliseconds since 1970; in UTC, in which PostgreSQL can hold it too."""
    try:
        found = _moment(value)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}={value!r:.60} must be {_A_MOMENT}, of the years 1 to 9999") from error
    raise BadInput(f"{name}={value!r:.60} has no time zone: write it with a Z or an offset")


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or value.isdigit():
        return _EPOCH + timedelta(milliseconds=int(value))
    if len(value) > _LONGEST_TEXT:
        raise ValueError("no moment is that long")
    return datetime.fromisoformat(value)
