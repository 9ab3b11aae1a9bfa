"""`manage.py openapi`: the OpenAPI document of the REST API, as the server serves it."""

from __future__ import annotations

import json

from django.core.management.base import BaseCommand

from triggerapp.api.openapi import document


class Command(BaseCommand):
    """Prints the document."""

    help = "Print the OpenAPI document of the REST API."
    requires_system_checks = []

    def handle(self, *args: object, **options: object) -> None:
        self.stdout.write(json.dumps(document(), indent=1, sort_keys=True))
