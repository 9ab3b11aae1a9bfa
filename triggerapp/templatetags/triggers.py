"""How the dashboard writes times, durations, sizes and statuses. Everything is escaped: text is never HTML."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote
from uuid import UUID

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from triggerapp import conf
from triggerapp.clock import about_now

register = template.Library()

NONE = "\N{EN DASH}"

_MARKS = MappingProxyType(
    {
        "pending": "◷",
        "queued": "⋯",
        "running": "▶",
        "waiting": "‖",
        "completed": "✓",
        "resolved": "✓",
        "failed": "✗",
        "crashed": "✗",
        "timed_out": "◔",
        "canceled": "⊘",
        "expired": "◌",
        "valid": "✓",
        "accepted": "✓",
        "delivered": "✓",
        "scheduled": "◷",
        "rejected": "✗",
        "duplicate": "⊘",
        "on": "✓",
        "off": "⊘",
        "current": "✓",
        "revoked": "⊘",
    }
)
"""Beside the colour, for those who do not see it."""


@register.simple_tag
@lru_cache(maxsize=256)
def status(value: str, means: str = "") -> SafeString:
    """A badge: sign, word and colour."""
    word = str(value).replace("_", " ")
    return format_html(
        '<span class="status is-{}" title="{}"><span aria-hidden="true">{}</span> {}</span>',
        str(value).replace("_", "-"),
        means,
        _MARKS.get(str(value), "•"),
        word,
    )


_LEVEL_MARKS = MappingProxyType({"debug": "·", "info": "i", "warning": "▲", "error": "✗", "critical": "✗"})


@register.simple_tag
@lru_cache(maxsize=16)
def level(name: str) -> SafeString:
    """The level of a line: sign, word and colour."""
    return format_html(
        '<span class="level is-{}"><span aria-hidden="true">{}</span> {}</span>',
        name,
        _LEVEL_MARKS.get(name, "·"),
        name,
    )


@register.filter
def clock(moment: datetime) -> str:
    """The time of day in UTC, to the millisecond."""
    return f"{moment.astimezone(UTC):%H:%M:%S.%f}"[:-3]


@register.filter
def iso(moment: datetime) -> str:
    """The moment, for machines and for those who look closely."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


@register.simple_tag
def flower(kind: str, name: str) -> str:
    """The address of Flower's page of a task or worker; empty where there is no Flower."""
    base = conf.get().FLOWER_URL.rstrip("/")
    return f"{base}/{kind}/{quote(name, safe='')}" if base else ""


@register.filter
def when(moment: datetime | None) -> SafeString:
    """How long ago, or how far ahead, which the page's script counts on; the moment itself on hover."""
    if moment is None:
        return format_html('<span class="faint">{}</span>', NONE)
    utc = moment.astimezone(UTC)
    return format_html(
        '<time data-ago datetime="{}" title="{}">{}</time>',
        utc.isoformat(),
        utc.strftime("%Y-%m-%d %H:%M:%S UTC"),
        _relative(utc),
    )


_UNITS = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def _relative(moment: datetime) -> str:
    passed = about_now() - moment
    length, unit = next((each for each in _UNITS if abs(passed) >= each[0]), _UNITS[-1])
    text = f"{abs(passed) // length} {unit}"
    return f"{text} ago" if passed >= timedelta() else f"in {text}"


@register.filter
def duration(value: timedelta | None) -> str:
    """Two units at most, and one if there is nothing of the second."""
    if value is None:
        return NONE
    seconds = max(0.0, value.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    first = next(n for n, (value, _) in enumerate(units) if value)
    return " ".join(f"{value} {unit}" for value, unit in units[first : first + 2] if value)


class _Lasting(Protocol):
    """A run, or a bar of its time line."""

    @property
    def took(self) -> timedelta | None: ...

    @property
    def goes_on_since(self) -> datetime | None: ...


@register.filter
def took(what: _Lasting) -> str:
    """How long it took; of what goes on how long so far, which the page's script counts on."""
    if what.goes_on_since is None:
        return duration(what.took)
    return format_html('<span data-since="{}">{}</span>', iso(what.goes_on_since), duration(what.took))


@register.filter
def seconds(value: float | None) -> str:
    """A number of seconds, as a duration."""
    return duration(None if value is None else timedelta(seconds=value))


@register.filter
def count(value: int) -> str:
    """A number of things, to be read at a glance."""
    return f"{value:,}"


@register.filter
def size(value: int | None) -> str:
    """Bytes for people."""
    number = float(value or 0)
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"


@register.filter
def short(value: UUID | str | None) -> str:
    """The end of an id, which differs where its beginning, a time, is the same."""
    return f"…{str(value)[-8:]}" if value else NONE


@register.filter
def commit(git: object) -> str:
    """The beginning of a commit's name, in what is known of it."""
    return str(git.get("commitSha") or "")[:10] if isinstance(git, dict) else ""


@register.filter(name="json")
def as_json(value: object) -> str:
    """As JSON text."""
    return json.dumps(value, ensure_ascii=False)


@register.filter
def example(filter: object) -> str:
    """A payload that the filter of a wait matches, where it names the values themselves."""
    return json.dumps(_matching(filter) if isinstance(filter, dict) else {}, indent=2, ensure_ascii=False)


def _matching(condition: object) -> object:
    if isinstance(condition, dict):
        return {key: _matching(value) for key, value in condition.items() if not str(key).startswith("$")}
    if isinstance(condition, list):
        return next((item for item in condition if not isinstance(item, dict)), None)
    return condition
