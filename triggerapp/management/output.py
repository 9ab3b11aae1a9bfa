"""What commands print: tables for people, JSON for machines. What runs say is never markup, nor an escape sequence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import IO, Any, cast
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.table import Table
from rich.text import Text

from triggerapp import ids

Json = Any
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(value: object) -> str:
    """Text without what a terminal would obey; control characters are written as Python would."""
    text = "" if value is None else str(value)
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def dump(value: Json) -> str:
    """As JSON, on one line for lists of rows to be read one by one."""
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=True)


def outcome(run: object, *, error: str = "", **done: Json) -> dict[str, Json]:
    """What was done to a run, and if that was refused the reason, as an object of the answer."""
    return {"id": ids.show("run", run), **done, **({"error": error} if error else {})}


_RUN = len(ids.show("run", UUID(int=0)))
_PIPED = 200
"""The width for what is no terminal: a file has no edge, and whoever reads it wants a row on a line."""


def table(out: object, columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str | None = None) -> None:
    """Print a table. What is in a column named `run` is an id, which is whole however narrow the terminal is."""
    shown = Table(caption=caption)
    for name in columns:
        whole = {"no_wrap": True, "min_width": _RUN} if name == "run" else {"overflow": "fold"}
        shown.add_column(name, **cast(dict[str, Any], whole))
    for row in rows:
        shown.add_row(*(Text(safe(cell)) for cell in row))
    console(out).print(shown)


def console(out: object) -> Console:
    """A terminal, or a file, to print to."""
    file = cast("IO[str]", out)
    return Console(file=file, markup=False, highlight=False, width=None if file.isatty() else _PIPED)
