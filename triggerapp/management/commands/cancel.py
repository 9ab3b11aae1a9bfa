"""`manage.py cancel RUN…`: stop runs, and their children."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from triggerapp import ids
from triggerapp.engine import verbs
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, actor, run_ids
from triggerapp.management.output import dump, outcome
from triggerapp.models import Run


class Command(BaseCommand):
    """Exit status 1 if there is no such run."""

    help = "Stop runs and their children. What is over stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Cancel each."""
        chosen = run_ids(options["runs"])
        missing = set(chosen) - set(Run.objects.filter(pk__in=chosen).values_list("pk", flat=True))
        if missing:
            raise CommandError(f"there is no run {ids.show('run', min(missing))}")
        canceled = {found: verbs.cancel(found, actor=actor()) for found in chosen}
        if options["json"]:
            self.stdout.write(dump([outcome(run, canceled=done) for run, done in canceled.items()]))
            return
        for found, done in canceled.items():
            self.stdout.write(f"{ids.show('run', found)} {'canceled' if done else 'was over already'}")
