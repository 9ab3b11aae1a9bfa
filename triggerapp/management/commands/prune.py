"""`manage.py prune`: delete now what is older than its retention. Workers do it too, a little at a time."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from triggerapp.engine import events, logs, rescue
from triggerapp.management.base import BaseCommand
from triggerapp.management.output import dump

_BATCH = 1000


class Command(BaseCommand):
    """Prints how many runs were deleted."""

    help = "Delete ended runs, events, lines and workers older than RUN_RETENTION, EVENT_RETENTION and LOG_RETENTION."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, a batch at a time."""
        deleted = 0
        while (batch := rescue.prune(_BATCH)) > 0:
            deleted += batch
        for prune in (events.prune, logs.prune):
            while prune(_BATCH) > 0:
                pass
        self.stdout.write(dump({"runs": deleted}) if options["json"] else f"{deleted:,} runs deleted")
