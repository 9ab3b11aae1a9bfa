"""`manage.py prune`: delete now what is older than its retention. Workers do it too, a little at a time.

A dry run deletes too, and takes it all back: the same statements count, so that they cannot count otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from triggerapp.engine import audit, environments
from triggerapp.engine.retention import KINDS
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import actor
from triggerapp.management.output import dump

_BATCH = 1000


class Command(BaseCommand):
    """Prints how many rows of each kind were deleted."""

    help = "Delete what is older than the settings keep it, ended runs with all of theirs: " + ", ".join(
        f"{name} ({kind.kept})" for name, kind in KINDS.items()
    )

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
    deleted = _prune_all()
    if any(deleted.values()):
        audit.record(environments.current(), actor(), "prune", "retention", after=deleted)
    return deleted


def _counted_only() -> dict[str, int]:
    with transaction.atomic():
        counted = _prune_all()
        transaction.set_rollback(True)
    return counted


def _prune_all() -> dict[str, int]:
    return {name: _all(kind.prune) for name, kind in KINDS.items()}


def _all(prune: Callable[[int], int]) -> int:
    deleted = 0
    while (batch := prune(_BATCH)) > 0:
        deleted += batch
    return deleted
