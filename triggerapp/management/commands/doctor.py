"""`manage.py doctor`: what would lose runs or leave them lying, each with its remedy."""

from __future__ import annotations

import json
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from triggerapp import doctor

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "red")}


class Command(BaseCommand):
    """Exit status 1 if there is an error among the findings."""

    help = "Look at the database, the broker, the workers, clocks and settings; exit with 1 if something is wrong."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Examine and print."""
        findings = doctor.examine()
        if options["json"]:
            self.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=2))
        else:
            Console(file=cast("IO[str]", self.stdout)).print(_table(findings))
        errors = sum(finding.level == "error" for finding in findings)
        if errors:
            raise CommandError(f"{errors} of {len(findings)} findings are errors", returncode=1)


def _table(findings: list[doctor.Finding]) -> Table:
    table = Table("", "about", "finding", "what to do")
    for finding in findings:
        word, colour = _MARKS[finding.level]
        # Text, not markup: what servers say is not ours to format.
        table.add_row(Text(word, style=colour), Text(finding.about), Text(finding.says), Text(finding.remedy))
    return table
