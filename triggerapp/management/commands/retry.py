"""`manage.py retry RUN…`: go on with failed runs from the step that failed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from triggerapp.engine import verbs
from triggerapp.errors import TriggerError
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, actor, run_id
from triggerapp.management.output import dump


class Command(BaseCommand):
    """Exit status 1 if one of them was refused; the others are retried all the same."""

    help = "Go on with failed runs from the step that failed; recorded steps are not repeated."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Retry each."""
        results: dict[str, str] = {}
        for found in [run_id(text) for text in options["runs"]]:
            results[str(found)] = self._retry(found)
        if options["json"]:
            self.stdout.write(dump(results))
        else:
            for name, result in results.items():
                self.stdout.write(f"{name} {result or 'is tried again'}")
        if any(results.values()):
            raise CommandError(f"{sum(map(bool, results.values()))} of {len(results)} were refused")

    def _retry(self, found: Any) -> str:
        """Why it was refused; empty if it was not."""
        try:
            verbs.retry(found, actor=actor())
        except TriggerError as error:
            return str(error)
        return ""
