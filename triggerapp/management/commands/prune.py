"""`manage.py prune`: delete now what is older than its retention. Workers do it too, a little at a time.

A dry run deletes too, and takes it all back: the same statements count, so that they cannot count otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.core.management.base import CommandParser
from django.db import transaction

from triggerapp.engine import (
    audit,
    batches,
    deliveries,
    environments,
    events,
    logs,
    notices,
    packets,
    rescue,
    schedules,
)
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import actor
from triggerapp.management.output import dump

KINDS: Final[Mapping[str, Callable[[int], int]]] = {
    "runs": rescue.prune_runs,
    "lines": logs.prune,
    "events": events.prune,
    "tokens": rescue.prune_tokens,
    "batches": batches.prune,
    "firings": schedules.prune,
    "deliveries": deliveries.prune,
    "notices": notices.prune,
    "packets": packets.prune,
    "workers": rescue.prune_workers,
}
"""What is counted; a run goes with its steps, waits and lines, which are not."""
_BATCH = 1000


class Command(BaseCommand):
    """Prints how many rows of each kind were deleted."""

    help = "Delete what is older than the settings keep it: ended runs with all of theirs, events, lines, webhooks, …"

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and keep it")
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, a batch at a time."""
        deleted = _counted_only() if options["dry_run"] else _deleted()
        if options["json"]:
            self.stdout.write(dump(deleted))
            return
        found = ", ".join(f"{count:,} {kind}" for kind, count in deleted.items() if count) or "nothing"
        self.stdout.write(f"{found} {'would be deleted' if options['dry_run'] else 'deleted'}")


def _deleted() -> dict[str, int]:
    deleted = {kind: _all(prune) for kind, prune in KINDS.items()}
    if any(deleted.values()):
        audit.record(environments.current(), actor(), "prune", "retention", after=deleted)
    return deleted


def _counted_only() -> dict[str, int]:
    with transaction.atomic():
        counted = {kind: _all(prune) for kind, prune in KINDS.items()}
        transaction.set_rollback(True)
    return counted


def _all(prune: Callable[[int], int]) -> int:
    deleted = 0
    while (batch := prune(_BATCH)) > 0:
        deleted += batch
    return deleted
