"""`manage.py services start|status|stop`: real servers of one's own for a project in development."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from triggerapp.management.place import project
from triggerapp.services import FOLDER, Services, ServicesError, ServiceUrls

NOT_RUNNING = 3
"""The exit status of `status` when a server does not run, as of init scripts."""


class Command(BaseCommand):
    """Starts, shows and stops the project's own PostgreSQL and Valkey."""

    help = "Start, show or stop this project's own PostgreSQL and Valkey servers (data in .services/)."
    requires_system_checks = []  # the check of the database would name this command

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("verb", choices=["start", "status", "stop"])
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: object, verb: str, **options: Any) -> None:
        services = Services(project() / FOLDER)
        try:
            if verb == "stop":
                self._say_stopped(services.stop(), as_json=options["json"])
                return
            urls = services.start() if verb == "start" else services.urls()
        except ServicesError as cause:
            raise CommandError(str(cause)) from cause
        if options["json"]:
            self.stdout.write(_as_json(urls, services.missing()))
        elif urls is None:  # not where `export $(...)` reads
            self.stderr.write(
                f"not running: {' and '.join(services.missing())}; `manage.py services start` starts what is missing"
            )
        else:
            self.stdout.write(_as_text(urls))
        if urls is None:
            raise SystemExit(NOT_RUNNING)

    def _say_stopped(self, ran: dict[str, bool], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"running": False, "stopped": [name for name, did in ran.items() if did]}))
            return
        for name, did in ran.items():
            self.stdout.write(f"{name}: {'stopped' if did else 'not running'}")


def _as_text(urls: ServiceUrls) -> str:
    """Lines a shell can read with `export $(...)` and a person too."""
    return f"DATABASE_URL={urls.database_url}\nCELERY_BROKER_URL={urls.broker_url}"


def _as_json(urls: ServiceUrls | None, missing: list[str]) -> str:
    return json.dumps({"running": urls is not None, **(asdict(urls) if urls else {"missing": missing})})
