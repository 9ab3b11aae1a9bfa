"""`manage.py subscriptions`: which tasks events start; workers keep it as their code says.

`--sync` makes it what this project's code says, at once: a worker takes ten minutes to take back what is not there any
more, because others may run older code meanwhile.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from triggerapp import conf
from triggerapp.engine import subscriptions
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import actor
from triggerapp.management.output import dump, table


class Command(BaseCommand):
    """Shows and synchronises them."""

    help = "Show which tasks events start, or take it from this project's code."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--sync", action="store_true", help="take them from this project's code, at once")
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        if options["sync"]:
            app, wanted = subscriptions.of_code()
            gone = subscriptions.synchronise(app, wanted, actor=actor())
            self.stderr.write(f"{len(wanted)} in the code of {app}; {gone} taken back")
        found = subscriptions.all_of(conf.get().ENVIRONMENT)
        columns = ("name", "task", "filter", "app")
        rows = [{name: getattr(each, name) for name in columns} for each in found]
        if options["json"]:
            self.stdout.write(dump(rows))
        else:
            table(self.stdout, columns, [list(row.values()) for row in rows])
