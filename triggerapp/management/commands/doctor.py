"""`manage.py doctor`: what would lose runs or leave them lying, each with its remedy."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table
from rich.text import Text

from triggerapp import doctor
from triggerapp.management.output import console, safe

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "red")}


class Command(BaseCommand):
    """Exit status 1 if there is an error among the findings; with `--strict` after a warning too."""

    help = "Look at the database, the broker, the workers, clocks and settings; exit with 1 if something is wrong."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")
        parser.add_argument("--strict", action="store_true", help="exit with 1 after a warning too")

    def handle(self, *args: Any, **options: Any) -> None:
        """Examine and print."""
        findings = doctor.examine()
        if options["json"]:
            self.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=2))
        else:
            console(self.stdout).print(_table(findings))
        counted = ("error", "warning") if options["strict"] else ("error",)
        wrong = sum(finding.level in counted for finding in findings)
        if wrong:
            what = "errors or warnings" if options["strict"] else "errors"
            raise CommandError(f"{wrong} of {len(findings)} findings are {what}", returncode=1)


def _table(findings: list[doctor.Finding]) -> Table:
    table = Table()
    for name in ("", "about", "finding", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        word, colour = _MARKS[finding.level]
        # Text, not markup: what servers say is not ours to format.
        texts = (Text(safe(text)) for text in (finding.about, finding.says, finding.remedy))
        table.add_row(Text(word, style=colour), *texts)
    return table
