"""`manage.py send_event NAME [PAYLOAD]`: send an event, as anybody outside would."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from triggerapp import ids
from triggerapp.engine import environments, events, limits
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import WHEN, actor, json_of, when
from triggerapp.management.output import dump


class Command(BaseCommand):
    """Prints the event's id."""

    help = "Send an event: every wait that matches it goes on."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("name")
        parser.add_argument("payload", nargs="?", default="null", help="JSON (default: %(default)s)")
        parser.add_argument("--id", help="the sender's own id: the same id twice is one event")
        parser.add_argument("--after", help=f"deliver it later: {WHEN}")
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send it."""
        payload = json.dumps(json_of(options["payload"], "the payload"))
        limits.check_text("an event's name", options["name"])
        limits.check_text("an event's id", options["id"])
        deliver = None if options["after"] is None else when("--after", options["after"])
        here, name, given = environments.current(), options["name"], options["id"]
        sent = events.emit_as(here, name, payload, external_id=given, deliver=deliver, actor=actor())
        text = dump({"id": ids.show("event", sent.id), "isCached": sent.cached})
        self.stdout.write(text if options["json"] else ids.show("event", sent.id))
