"""`manage.py bench`: what durability costs on this machine, beside what bounds it."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import IO, Any, cast

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from triggerapp.management.base import BaseCommand
from workers.bench import api, checkpoint, events, fanout, noop, report, sleepers, stage, steps, ticks, viewers
from workers.bench.report import Figure

BENCHMARKS = {
    "noop": noop,
    "steps": steps,
    "sleepers": sleepers,
    "tick": ticks,
    "events": events,
    "fanout": fanout,
    "checkpoint": checkpoint,
    "viewers": viewers,
    "api": api,
}


def _several(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


class Command(BaseCommand):
    """Measures in a database of its own, with workers of its own, and removes both."""

    help = "Measure no-ops, steps, sleepers, events, fan-out, checkpoints and the REST API on this machine's servers."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="only this benchmark; repeatable")
        parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, proves nothing")
        parser.add_argument(
            "--runs", type=_several, default=100_000, help="runs in the table whose list the API is asked for"
        )
        parser.add_argument(
            "--waiting", type=_several, help="how many runs wait as images at once, for `checkpoint` (default: 1000)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print."""
        names = options["only"] or list(BENCHMARKS)
        console = Console(
            file=cast("IO[str]", self.stdout), highlight=False, width=None if self.stdout.isatty() else 110
        )
        measured: dict[str, list[Figure]] = {}
        try:
            machine = self._measure(names, measured, console, options)
        except stage.BenchError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            figures = {name: [figure.as_dict() for figure in found] for name, found in measured.items()}
            self.stdout.write(json.dumps({"machine": machine, "quick": options["quick"], "figures": figures}, indent=2))
        else:
            console.print(", ".join(f"{name} {value}" for name, value in machine.items()))

    def _measure(
        self, names: list[str], measured: dict[str, list[Figure]], console: Console, options: dict[str, Any]
    ) -> dict[str, str]:
        """Each benchmark's table as soon as it is there; progress goes to standard error."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("a database is made", total=len(names))
            say = lambda text: progress.update(bar, description=text)  # noqa: E731
            with stage.opened(quick=options["quick"], say=say, runs=options["runs"], waiting=options["waiting"]) as on:
                machine = dict(report.machine())
                for name in names:
                    measured[name] = BENCHMARKS[name].measure(on)
                    progress.advance(bar)
                    if not options["json"]:
                        console.print(report.table(BENCHMARKS[name].TITLE, measured[name]))
        return machine
