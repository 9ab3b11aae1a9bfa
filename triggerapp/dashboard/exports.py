"""The list of runs as a file, filtered as on the page and written while it is read: CSV for people, JSON for programs.

A cell of the CSV that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from triggerapp.dashboard import queries
from triggerapp.dashboard.filters import RunFilter, mistakes
from triggerapp.dashboard.pages import page
from triggerapp.dashboard.queries import RunRow
from triggerapp.engine.selection import Cursor
from triggerapp.errors import BadInput, NotFound

MOST: Final = 10_000
"""Runs in one file."""
_AT_ONCE: Final = 500
_LOOKS: Final = 50
"""So often runs are searched for a file: with a filter that hardly any run passes it would be all of the table."""
_FORMULA: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the runs."""

    rows: list[RunRow]
    note: str = ""
    """On the last part: why there may be more runs than the file has; "" if it has them all."""


@page()
def export(request: HttpRequest, form: str) -> HttpResponseBase:
    """What the list's filter finds, the newest first."""
    if form not in _FORMS:
        raise NotFound(f"there is no export as {form[:20]}; there are {', '.join(_FORMS)}")
    wanted = RunFilter.parse(request.GET)
    wrong = mistakes(wanted, request.GET)
    if wrong:  # a file cannot say what it has instead
        raise BadInput(" ".join(wrong))
    content_type, write = _FORMS[form]
    parts = _parts(wanted)
    text = write(chain([next(parts)], parts))  # the first look is ours: an error still has a page
    body = _one_by_one(text) if isinstance(request, ASGIRequest) else text
    headers = {"Content-Disposition": f'attachment; filename="runs.{form}"'}
    return StreamingHttpResponse(body, content_type=content_type, headers=headers)


def _parts(wanted: RunFilter) -> Iterator[Part]:
    cursor, left = None, MOST
    for look in range(1, _LOOKS + 1):
        found = queries.runs(wanted, older_than=cursor, limit=min(left, _AT_ONCE))
        cursor, left = found.older, left - len(found.rows)
        yield Part(rows=found.rows, note=_note(cursor, left, is_last=look == _LOOKS))
        if cursor is None or left == 0:
            return


def _note(older: Cursor | None, left: int, *, is_last: bool) -> str:
    if older is not None and left == 0:
        return f"There are more: a file has the newest {MOST} runs. Filter them, by period or status."
    if older is not None and is_last:
        before = older.at.isoformat(timespec="seconds")
        return f"Runs before {before} were not searched. Filter them, by period or status."
    return ""


async def _one_by_one(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Each piece is read when the last one has gone: under ASGI Django would read all of them first."""
    read = sync_to_async(partial(next, pieces, None))
    while (piece := await read()) is not None:
        yield piece


def _fields(run: RunRow) -> dict[str, Json]:
    return {
        "id": str(run.id),
        "task": run.task,
        "status": run.status,
        "queue": run.queue,
        "attempt": run.attempt,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": None if run.took is None else run.took.total_seconds(),
        "tags": run.tags,
        "task_id": run.task_id,
        "parent": run.parent_id,
        "root": run.root_id,
        "replay_of": run.replay_of_id,
        "version": run.version,
    }


_COLUMNS: Final = (
    "id task status queue attempt created_at started_at finished_at seconds tags task_id parent root replay_of version"
).split()


def _csv(parts: Iterable[Part]) -> Iterator[str]:
    yield _line(_COLUMNS)
    for part in parts:
        yield "".join(_line([_cell(value) for value in _fields(run).values()]) for run in part.rows)
        if part.note:
            yield _line([part.note])


def _line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _cell(value: Json) -> str:
    """As text that no spreadsheet computes."""
    if value is None:
        return ""
    text = " ".join(value) if isinstance(value, list) else value.isoformat() if hasattr(value, "isoformat") else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else str(text)


def _json(parts: Iterable[Part]) -> Iterator[str]:
    """One run on each line, and at the end whether they are all."""
    yield '{"runs": ['
    comma, note = "\n", ""
    for part in parts:
        for run in part.rows:
            yield comma + json.dumps(_fields(run), cls=DjangoJSONEncoder, ensure_ascii=False)
            comma = ",\n"
        note = part.note
    yield f'\n], "complete": {json.dumps(not note)}, "most": {MOST}, "note": {json.dumps(note)}}}\n'


_FORMS: Final[dict[str, tuple[str, Callable[[Iterable[Part]], Iterator[str]]]]] = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "json": ("application/json; charset=utf-8", _json),
}
