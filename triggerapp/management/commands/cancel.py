"""`manage.py cancel RUN…`: stop runs, and their children."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from triggerapp.engine import verbs
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, actor, run_id
from triggerapp.management.output import dump
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
        ids = [run_id(text) for text in options["runs"]]
        missing = set(ids) - set(Run.objects.filter(pk__in=ids).values_list("pk", flat=True))
        if missing:
            raise CommandError(f"there is no run {min(missing)}")
        canceled = {str(found): verbs.cancel(found, actor=actor()) for found in ids}
        if options["json"]:
            self.stdout.write(dump(canceled))
            return
        for found, done in canceled.items():
            self.stdout.write(f"{found} {'canceled' if done else 'was over already'}")
