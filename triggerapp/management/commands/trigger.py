"""`manage.py trigger TASK [PAYLOAD]`: accept a run."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from triggerapp import ids
from triggerapp.engine import calls, environments
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import PAYLOAD, WHEN, actor, json_of, when
from triggerapp.management.output import dump


class Command(BaseCommand):
    """Prints the run's id."""

    help = f"Trigger a durable task. PAYLOAD is {PAYLOAD}."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("task")
        parser.add_argument(
            "payload", nargs="?", help="such as '{\"order\": 7}' or '{\"args\": [7]}'; none: no argument"
        )
        parser.add_argument("--delay", help=f"start it later: {WHEN}")
        parser.add_argument("--tag", action="append", default=[], help="may be given repeatedly")
        parser.add_argument("--idempotency-key")
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Accept it."""
        payload = calls.MISSING if options["payload"] is None else json_of(options["payload"], "the payload")
        given = {
            "delay": None if options["delay"] is None else when("--delay", options["delay"]),
            "tags": options["tag"] or None,
            "idempotency_key": options["idempotency_key"],
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        call = calls.Call(task=options["task"], payload=payload, options=wanted)
        with transaction.atomic():
            (run,) = calls.trigger([call], environment=environments.current(), actor=actor())
        text = dump({"id": ids.show("run", run.run_id), "isCached": run.cached})
        self.stdout.write(text if options["json"] else ids.show("run", run.run_id))
