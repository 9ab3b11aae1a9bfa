"""`manage.py runs list | show | tail`: look at runs from a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser

from triggerapp import ids, redaction
from triggerapp.api import waitpoints
from triggerapp.api.rendering import common
from triggerapp.api.runs import retrieved
from triggerapp.dashboard import detail, logs, queries, waterfall
from triggerapp.dashboard.filters import RunFilter
from triggerapp.dashboard.logs import LogFilter
from triggerapp.dashboard.queries import RunRow
from triggerapp.dashboard.waterfall import Span
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, add_filters, count_to, nothing, run_id, selection
from triggerapp.management.output import dump, safe, table
from triggerapp.models import FINAL, Run, Status
from triggerapp.models.moves import public_name
from triggerapp.templatetags.triggers import duration

Json = Any
_PAUSE = 0.5
_LINE = 200
"""Characters of a result that are shown."""


class Command(BaseCommand):
    """The dashboard's list and page, as text."""

    help = "Look at runs: list them, show one with its journal, follow one until it has ended."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="the newest runs that match")
        add_filters(listing)
        listing.add_argument("--limit", type=count_to(1000), default=20, help="at most (default: %(default)s)")
        show = verbs.add_parser("show", help="one run, with what it did")
        tail = verbs.add_parser("tail", help="what one run does, until it has ended")
        for one in (show, tail):
            one.add_argument("run", metavar="RUN", help=RUN)
        for each in (listing, show, tail):
            each.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Look."""
        getattr(self, f"_{options['verb']}")(options)

    def _list(self, options: Json) -> None:
        wanted = RunFilter(**selection(options).dump())
        rows = queries.runs(wanted, limit=options["limit"]).rows
        if options["json"]:
            self._dump(_rendered(rows, wanted.environment))
            return
        if not rows:
            self.stdout.write(nothing(wanted.period))
            return
        columns = ("run", "task", "status", "queue", "attempt", "created", "took")
        table(self.stdout, columns, map(_cells, rows))

    def _show(self, options: Json) -> None:
        found = run_id(options["run"])
        facts = detail.facts(found)
        if options["json"]:
            more = {"queue": facts.run.queue, "journal": detail.journal(found)}
            self._dump({**retrieved(Run.objects.get(pk=found)), **more})
            return
        run, shown = facts.run, ids.show("run", found)
        self.stdout.write(safe(f"{run.task} {shown}: {run.status}, attempt {run.attempt}"))
        if isinstance(facts.error, dict):
            for line in _failure(facts.error):
                self.stdout.write(safe(line))
        if run.status == Status.COMPLETED:
            self.stdout.write(safe(f"result: {_result(found)}"))
        spans = waterfall.spans(facts)
        table(
            self.stdout,
            ("what", "", "status", "began", "took", ""),
            ((s.kind, s.label, s.status, _time(s.start), duration(s.took), s.note) for s in spans),
        )

    def _dump(self, value: Json) -> None:
        """Without secrets, also of texts: the journal's values are JSON in themselves."""
        self.stdout.write(dump(redaction.data(value, in_texts=True)))

    def _tail(self, options: Json) -> None:
        """Each step, wait and attempt as it ends, each change of status, and what it logs and prints."""
        found, told, last = run_id(options["run"]), set[tuple[str, ...]](), 0
        while True:
            facts = detail.facts(found)
            last = self._say_log(found, last, as_json=options["json"])
            for line in _lines(facts, as_json=options["json"]):
                if line not in told:
                    told.add(line)
                    self._say(found, line, as_json=options["json"])
            if facts.run.status in FINAL:
                return
            time.sleep(_PAUSE)

    def _say_log(self, run: UUID, last: int, *, as_json: bool) -> int:
        """What it logged and printed since."""
        while rows := logs.after(run, LogFilter(), last).rows:
            last = rows[-1].id
            for row in rows:
                name = row.text if as_json or not row.step else f"{row.step}: {row.text}"
                self._say(run, ("log", name, row.level_name), as_json=as_json)
        return last

    def _say(self, run: UUID, line: tuple[str, ...], *, as_json: bool) -> None:
        kind, label, status = line
        text = dump({"run": ids.show("run", run), "kind": kind, "name": label, "status": status})
        self.stdout.write(text if as_json else safe(f"{kind:<10} {status:<10} {label}"))
        self.stdout.flush()


def _failure(error: Mapping[str, Json]) -> Iterator[str]:
    """What it raised, and what its rollbacks left as it was."""
    yield f"{error.get('type')}: {error.get('message')}"
    if failed := error.get("rollbacks_failed"):
        yield f"rollbacks that failed: {', '.join(failed)}"
    if left := error.get("not_undone"):
        yield f"not undone, since the last attempt registered no rollback for them: {', '.join(left)}"


def _result(run: UUID) -> str:
    """The beginning of what a run returned, without secrets."""
    large = detail.large(run)
    size = f"{large.result_size or 0:,} bytes of {large.result_type}"
    if large.result_type != "application/json":
        return size if large.result_size else "none"
    if large.result is None:
        return f"{size}; --json has all of it"
    text = json.dumps(redaction.data(json.loads(large.result), in_texts=True), ensure_ascii=False)
    return text if len(text) <= _LINE else f"{text[:_LINE]}… ({size}; --json has all of it)"


def _lines(facts: detail.Facts, *, as_json: bool) -> list[tuple[str, ...]]:
    spans = [span for span in waterfall.spans(facts) if span.status]
    run = facts.run
    ended = ((span.kind, span.label, _public_status(span) if as_json else span.status) for span in spans)
    return [*ended, ("status", run.task, run.public_status if as_json else run.status)]


def _public_status(span: Span) -> str:
    if span.kind == "wait":
        return waitpoints.NAMES[span.status]
    return span.public_status or public_name(span.status, delayed=False)


def _cells(row: RunRow) -> tuple[object, ...]:
    began, took = _time(row.created_at), duration(row.took)
    return ids.show("run", row.id), row.task, row.status, row.queue, row.attempt, began, took


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _rendered(rows: Sequence[RunRow], environment: str) -> list[dict[str, Json]]:
    """As the REST API lists them, with their queues."""
    found = Run.objects.defer("message", "payload", "result").in_bulk([row.id for row in rows])
    env = {"id": environment, "name": environment}
    return [{**common(found[row.id]), "env": env, "queue": row.queue} for row in rows if row.id in found]
