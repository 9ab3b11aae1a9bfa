"""`manage.py replay`: do runs again as new ones; one, some, or all that a filter matches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from rich.progress import Progress

from triggerapp.engine import bulk, verbs
from triggerapp.errors import TriggerError
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, actor, add_filters, is_filtered, json_of, run_id, selection
from triggerapp.management.output import console, dump, safe
from triggerapp.models import Run

Json = Any


class Command(BaseCommand):
    """Exit status 1 if one was refused; the others are replayed all the same."""

    help = "Run again: a new run with the same payload for each run given, or for all that match the filters."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("runs", nargs="*", metavar="RUN", help=RUN)
        parser.add_argument("--payload", help='of the new run, JSON: {"args": […], "kwargs": {…}}; for one run only')
        parser.add_argument(
            "--from-step",
            metavar="KEY",
            help="what was done before this step is taken from the first run's journal; `runs show` lists the steps",
        )
        parser.add_argument("--dry-run", action="store_true", help="show which, and do nothing")
        parser.add_argument("--json", action="store_true", help="for machines")
        add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay each."""
        chosen = _chosen(options)
        arguments = _arguments(options["payload"], chosen)
        if options["dry_run"]:
            self._show({str(run): "" for run in chosen}, options)
            return
        results = self._replay_all(chosen, arguments, options)
        self._show({str(run): found for run, (found, _) in results.items()}, options)
        refused = {run: why for run, (_, why) in results.items() if why}
        for run, why in list(refused.items())[:10]:
            self.stderr.write(safe(f"{run}: {why}"))
        if refused:
            raise CommandError(f"{len(refused)} of {len(results)} were refused")

    def _replay_all(self, chosen: list[UUID], arguments: Any, options: Json) -> dict[UUID, tuple[str, str]]:
        shown = Progress(console=console(self.stderr), disable=options["json"] or len(chosen) < 2)
        step = options["from_step"]
        with shown:
            return {run: _replay(run, arguments, step) for run in shown.track(chosen, description="replaying")}

    def _show(self, results: dict[str, str], options: Json) -> None:
        if options["json"]:
            self.stdout.write(dump([{"run": run, "replay": new or None} for run, new in results.items()]))
            return
        for run, new in results.items():
            self.stdout.write(f"{run} -> {new}" if new else run)


def _chosen(options: Json) -> list[UUID]:
    if options["runs"] and is_filtered(options):
        raise CommandError("give runs or filters, not both")
    if options["runs"]:
        return [run_id(text) for text in options["runs"]]
    if not is_filtered(options):
        raise CommandError("which runs? Give their ids, or filters such as --status failed --task shop.buy")
    return list(_matching(options))


def _matching(options: Json) -> Iterator[UUID]:
    wanted = selection(options)
    yield from bulk.matching(bulk.environment_of(wanted.environment), wanted)


def _arguments(text: str | None, chosen: list[UUID]) -> tuple[list[Json], dict[str, Json]] | None:
    if text is None:
        return None
    if len(chosen) != 1:
        raise CommandError("--payload is for one run")
    payload = json_of(text, "the payload")
    shape = isinstance(payload, dict) and payload.keys() <= {"args", "kwargs"}
    args, kwargs = (payload.get("args", []), payload.get("kwargs", {})) if shape else (None, None)
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise CommandError('the payload must be {"args": […], "kwargs": {…}}')
    return args, kwargs


def _replay(run: UUID, arguments: tuple[list[Json], dict[str, Json]] | None, step: str | None) -> tuple[str, str]:
    """The new run's id, or why there is none."""
    environment = Run.objects.filter(pk=run).values_list("environment_id", flat=True).first()
    try:
        done = verbs.replay(run, actor=actor(), arguments=arguments, environment=environment, from_step=step)
    except TriggerError as error:
        return "", str(error)
    return str(done.run_id), ""
