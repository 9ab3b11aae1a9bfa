"""`manage.py replay`: do runs again as new ones; one, some, or all that a filter matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from rich.progress import Progress

from triggerapp import ids
from triggerapp.engine import bulk, calls, deployments, environments, verbs
from triggerapp.engine.triggers import Triggered
from triggerapp.errors import TriggerError
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import (
    PAYLOAD,
    RUN,
    actor,
    add_filters,
    is_filtered,
    json_of,
    nothing,
    run_ids,
    selection,
)
from triggerapp.management.output import console, dump, outcome, safe
from triggerapp.models import Run

Json = Any
Again = Callable[..., Triggered]
Results = dict[UUID, tuple[str, str]]
"""Of each run the id of the new one, or why there is none; of a dry run neither."""
_NOTHING = ("", "")
VERSION = "a registered version that the new runs are for; noted on them and shown, but any worker takes them yet"


class Command(BaseCommand):
    """Exit status 1 if one was refused; the others are replayed all the same."""

    help = "Run again: a new run with the same payload for each run given, or for all that match the filters."

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """With our own `--version`: Django's, which prints its version, is in the way."""
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **options)

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("runs", nargs="*", metavar="RUN", help=RUN)
        parser.add_argument("--payload", help=f"of the new run, and for one run only: {PAYLOAD}")
        parser.add_argument(
            "--from-step",
            metavar="KEY",
            help="what was done before this step is taken from the first run's journal; `runs show` lists the steps",
        )
        parser.add_argument("--version", help=VERSION)
        parser.add_argument("--dry-run", action="store_true", help="show which, and do nothing")
        parser.add_argument("--json", action="store_true", help="for machines")
        add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay each."""
        chosen = _chosen(options)
        changes = _changes(options["version"], chosen)
        arguments = _arguments(options["payload"], chosen)
        if not chosen:
            self.stderr.write(nothing(options["period"]))
        if options["dry_run"]:
            self._show(dict.fromkeys(chosen, _NOTHING), options)
            return
        asked = {"arguments": arguments, "changes": changes, "from_step": options["from_step"]}
        again = partial(verbs.replay, actor=actor(), **asked)
        results = self._replay_all(chosen, again, options)
        self._show(results, options)
        if changes:
            self.stderr.write(f"{options['version']} is noted on the new runs; nothing holds them to it yet.")
        refused = {run: why for run, (_, why) in results.items() if why}
        for run, why in list(refused.items())[:10]:
            self.stderr.write(safe(f"{ids.show('run', run)}: {why}"))
        if refused:
            raise CommandError(f"{len(refused)} of {len(results)} were refused")

    def _replay_all(self, chosen: list[UUID], again: Again, options: Json) -> Results:
        shown = Progress(console=console(self.stderr), disable=options["json"] or len(chosen) < 2)
        with shown:
            return {run: _replay(run, again) for run in shown.track(chosen, description="replaying")}

    def _show(self, results: Results, options: Json) -> None:
        if options["json"]:
            self.stdout.write(dump([_answer(run, new, why) for run, (new, why) in results.items()]))
            return
        for run, (new, _) in results.items():
            first = ids.show("run", run)
            self.stdout.write(f"{first} -> {ids.show('run', new)}" if new else first)


def _answer(run: UUID, new: str, why: str) -> dict[str, Json]:
    made = {"replay": ids.show("run", new)} if new else {}
    return outcome(run, error=why, **made)


def _chosen(options: Json) -> list[UUID]:
    if options["runs"] and (is_filtered(options) or options["environment"]):
        raise CommandError("give runs or filters, not both")
    if options["runs"]:
        return run_ids(options["runs"])
    if not is_filtered(options):
        raise CommandError("which runs? Give their ids, or filters such as --status failed --task shop.buy")
    return list(_matching(options))


def _matching(options: Json) -> Iterator[UUID]:
    wanted = selection(options)
    yield from bulk.matching(environments.find(wanted.environment), wanted)


def _changes(version: str | None, chosen: list[UUID]) -> dict[str, Json]:
    """What is to be otherwise than in the first runs. A version that cannot be is one error, not one for each run."""
    if version is None:
        return {}
    runs = Run.objects.filter(pk__in=chosen).order_by("environment_id")
    for environment in runs.values_list("environment_id", flat=True).distinct():
        deployments.check(environment, version)
    return {"version": version}


def _arguments(text: str | None, chosen: list[UUID]) -> calls.Arguments | None:
    if text is None:
        return None
    if len(chosen) != 1:
        raise CommandError("--payload is for one run")
    payload = json_of(text, "the payload")
    task = Run.objects.filter(pk=chosen[0]).values_list("task", flat=True).first()
    if task is None:
        raise CommandError(str(ids.missing("run", chosen[0])))
    return calls.arguments(task, payload)


def _replay(run: UUID, again: Again) -> tuple[str, str]:
    """The new run's id, or why there is none."""
    environment = Run.objects.filter(pk=run).values_list("environment_id", flat=True).first()
    try:
        done = again(run, environment=environment)
    except TriggerError as error:
        return "", str(error)
    return str(done.run_id), ""
