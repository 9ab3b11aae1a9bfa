"""What commands about runs share: ids and filters as arguments, JSON as a value."""

from __future__ import annotations

import getpass
import json
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from triggerapp import conf
from triggerapp.engine import tokens
from triggerapp.engine.selection import PERIODS, Selection
from triggerapp.models import Status

Json = Any


def run_id(text: str) -> UUID:
    """A run's id as it is shown anywhere."""
    try:
        return UUID(text.removeprefix("run_"))
    except ValueError as error:
        raise CommandError(f"{text!r} is no run's id") from error


def json_of(text: str, what: str) -> Json:
    """An argument in JSON."""
    try:
        return json.loads(tokens.value_of(text.encode()))
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{what} is not JSON that can be stored: {error}") from error


def actor() -> str:
    """Whom the audit log names."""
    try:
        return f"shell {getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "shell"


def add_filters(parser: CommandParser) -> None:
    """The conditions of the dashboard's list."""
    parser.add_argument("--status", action="append", default=[], choices=Status.values, help="may be given repeatedly")
    parser.add_argument("--task", default="")
    parser.add_argument("--queue", default="")
    parser.add_argument("--tag", default="")
    parser.add_argument("--environment", default="", help="default: that of the settings")
    parser.add_argument("--period", choices=list(PERIODS), default="7d", help="how far back (default: %(default)s)")
    parser.add_argument("--root", action="store_true", help="only runs that no other run triggered")


def selection(options: dict[str, Any]) -> Selection:
    """What the options say."""
    names = ("task", "queue", "tag", "period", "root")
    return Selection(
        status=tuple(options["status"]),
        environment=options["environment"] or conf.get().ENVIRONMENT,
        **{name: options[name] for name in names},
    )


def is_filtered(options: dict[str, Any]) -> bool:
    """Whether any condition was given but the time."""
    return any(options[name] for name in ("status", "task", "queue", "tag", "root"))
