"""`manage.py retry RUN…`: go on with failed runs from the step that failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from triggerapp import ids
from triggerapp.engine import verbs
from triggerapp.errors import TriggerError
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, actor, run_ids
from triggerapp.management.output import dump, outcome


class Command(BaseCommand):
    """Exit status 1 if one of them was refused; the others are retried all the same."""

    help = "Go on with failed runs from the step that failed; recorded steps are not repeated."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Retry each."""
        refusals = {run: _refusal(run) for run in run_ids(options["runs"])}
        if options["json"]:
            self.stdout.write(dump([outcome(run, retried=not why, error=why) for run, why in refusals.items()]))
        else:
            for run, why in refusals.items():
                self.stdout.write(f"{ids.show('run', run)} {why or 'is tried again'}")
        if any(refusals.values()):
            raise CommandError(f"{sum(map(bool, refusals.values()))} of {len(refusals)} were refused")


def _refusal(run: UUID) -> str:
    """Try it again; why that was refused, empty if it was not."""
    try:
        verbs.retry(run, actor=actor())
    except TriggerError as error:
        return str(error)
    return ""
