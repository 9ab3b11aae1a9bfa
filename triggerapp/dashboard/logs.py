"""The lines of a run, as its page, its stream and `runs tail` show them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from triggerapp import ids, redaction
from triggerapp.dashboard import asked
from triggerapp.dashboard.pages import page
from triggerapp.engine import sql
from triggerapp.models import Run

SHOWN = 500
"""So many lines a page shows, and a message of the stream brings."""
LEVELS = ("debug", "info", "warning", "error", "critical")
_LAST = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One line."""

    id: int
    attempt: int
    step: str
    level: int
    logger: str
    text: str
    at: datetime
    begins: bool = False
    """Whether it is the first one of its step, or of its attempt."""

    @property
    def level_name(self) -> str:
        """In one word."""
        return next((name for name in reversed(LEVELS) if self.level >= _number(name)), LEVELS[0])

    @property
    def span(self) -> tuple[int, str]:
        """What it was said in."""
        return self.attempt, self.step


def _number(level: str) -> int:
    return int(getattr(logging, level.upper()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which lines of a run are shown."""

    level: str = ""
    text: str = ""
    attempt: int | None = None
    step: str | None = None
    """None for all; an empty one for what was said outside of steps."""

    @classmethod
    def parse(cls, request: HttpRequest) -> Self:
        """What its URL says; what is no choice of ours is left out, and the page says so."""
        data = request.GET
        return cls(
            level=asked.choice(request, "level", LEVELS),
            text=data.get("text", "").replace("\0", "")[:255],
            attempt=asked.number(request, "attempt"),
            step=data.get("step", "").replace("\0", "")[:255] if "step" in data else None,
        )

    def query(self, **more: object) -> str:
        """As the query of a URL."""
        chosen = {"level": self.level, "text": self.text}
        span = {"attempt": self.attempt, "step": self.step}
        kept = {name: value for name, value in chosen.items() if value}
        return urlencode({**kept, **{name: value for name, value in span.items() if value is not None}, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Lines, the oldest first."""

    rows: Sequence[LogRow]
    earlier: int | None = None
    """The id of the first line shown, if there are others before it."""

    @property
    def last(self) -> int:
        """The id of the last line, to go on from; 0 if there is none."""
        return self.rows[-1].id if self.rows else 0


_LINES = """
SELECT id, attempt, step, level, logger, text, at FROM triggerapp_logline
WHERE run_id = %s AND id BETWEEN %s AND %s AND level >= %s AND (%s = '' OR strpos(lower(text), lower(%s)) > 0)
  AND (%s::bigint IS NULL OR attempt = %s) AND (%s::text IS NULL OR step = %s)
"""


def _read(run_id: UUID, wanted: LogFilter, *, first: int = 0, last: int = _LAST, end: str) -> list[LogRow]:
    text, attempt, step = wanted.text, wanted.attempt, wanted.step
    level = _number(wanted.level) if wanted.level else 0
    params = [run_id, first, last, level, text, text, attempt, attempt, step, step]
    return [LogRow(**{**row, "text": redaction.text(row["text"])}) for row in sql.rows(f"{_LINES} {end}", params)]


def newest(run_id: UUID, wanted: LogFilter, *, before: int | None = None) -> LogPage:
    """The last lines, or the last ones before a line."""
    last = _LAST if before is None else before - 1
    found = _read(run_id, wanted, last=last, end=f"ORDER BY id DESC LIMIT {SHOWN + 1}")
    rows = _headed(found[SHOWN - 1 :: -1] if len(found) > SHOWN else found[::-1])
    return LogPage(rows=rows, earlier=rows[0].id if len(found) > SHOWN else None)


def after(run_id: UUID, wanted: LogFilter, line: int) -> LogPage:
    """The lines that came after that one, not all at once if there are many."""
    found = _headed(_read(run_id, wanted, first=line, end=f"ORDER BY id LIMIT {SHOWN}"))
    return LogPage(rows=[row for row in found if row.id > line])


def _headed(rows: Sequence[LogRow]) -> list[LogRow]:
    spans = [None, *(row.span for row in rows)]
    return [replace(row, begins=row.span != before) for row, before in zip(rows, spans, strict=False)]


def counts(run_id: UUID) -> dict[tuple[int, str], int]:
    """How many lines there are of each attempt and step."""
    rows = sql.rows(
        "SELECT attempt, step, count(*) AS n FROM triggerapp_logline WHERE run_id = %s GROUP BY 1, 2", [run_id]
    )
    return {(row["attempt"], row["step"]): row["n"] for row in rows}


@page()
def download(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """All lines, as a file of text."""
    if not Run.objects.filter(pk=run_id).exists():
        raise ids.missing("run", run_id)
    rows = _read(run_id, LogFilter.parse(request), end="ORDER BY id")
    texts = (f"{row.at:%Y-%m-%dT%H:%M:%S.%f}Z {row.level_name.upper():8} {_where(row)}{row.text}\n" for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="log-{run_id}.txt"'}
    return HttpResponse("".join(texts), content_type="text/plain; charset=utf-8", headers=headers)


def _where(row: LogRow) -> str:
    return f"[{row.attempt}{' ' + row.step if row.step else ''}] "
