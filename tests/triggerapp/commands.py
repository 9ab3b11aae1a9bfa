"""Management commands as tests call them."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from django.core.management import call_command


def said(*arguments: object) -> str:
    """What the command writes."""
    out = StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=StringIO())
    return out.getvalue()


def answered(*arguments: object) -> Any:
    """What it answers to a program."""
    return json.loads(said(*arguments, "--json"))
