"""Durations as Trigger.dev writes them: `30s`, `1h30m`, `2w`; a moment is ISO 8601 with a time zone."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from triggerapp.errors import BadInput

_PARTS = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)hr?)?(?:(\d+)m)?(?:(\d+)s)?")
_NAMES = ("weeks", "days", "hours", "minutes", "seconds")
_LETTERS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_LONGEST_TEXT = 40


def text(length: timedelta) -> str:
    """As people write it: `1h30m`, `-5s`."""
    rest, found = abs(length), ""
    for letter, unit in _LETTERS.items():
        count, rest = divmod(rest, unit)
        found += f"{count}{letter}" if count else ""
    if rest or not found:
        found += f"{rest.total_seconds():.10g}s"
    return f"-{found}" if length < timedelta() else found


def duration(name: str, value: Any, *, unit: str = "seconds") -> timedelta:
    """A text of units, or a number of one: of seconds, unless it is said."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(**{unit: value})
        found = _PARTS.fullmatch(value) if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT else None
        if found is not None:
            return timedelta(**{each: int(n) for each, n in zip(_NAMES, found.groups(), strict=True) if n})
    except (OverflowError, ValueError) as error:
        raise BadInput(f"{name}={value!r:.60} is too long a time") from error
    raise BadInput(f"{name}={value!r:.60} must be a duration such as '30s', '1h30m' or '2w', or a number of {unit}")


def deadline(name: str, value: Any) -> timedelta | datetime:
    """A duration from now, or a moment."""
    if isinstance(value, str) and "-" in value[:_LONGEST_TEXT]:
        return moment(name, value)
    return duration(name, value)


def moment(name: str, value: Any) -> datetime:
    """A moment in ISO 8601, or the milliseconds since 1970."""
    try:
        if isinstance(value, str) and not value.isdigit():
            found = datetime.fromisoformat(value[:_LONGEST_TEXT])
        else:
            found = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(milliseconds=int(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}={value!r:.60} must be a moment such as '2026-01-31T12:00:00Z'") from error
    if found.tzinfo is None:
        raise BadInput(f"{name}={value!r:.60} has no time zone: write it with a Z or an offset")
    return found
