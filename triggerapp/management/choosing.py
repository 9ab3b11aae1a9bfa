"""What commands about runs share: ids and filters as arguments, JSON as a value."""

from __future__ import annotations

import getpass
import json
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from triggerapp import conf, ids
from triggerapp.engine import durations, environments, tokens
from triggerapp.engine.selection import PERIODS, Selection, id_range
from triggerapp.models import Run, Status

Json = Any
RUN = "a run's id, or enough of its beginning"
PAYLOAD = (
    'JSON, as for the API: an object is keyword arguments; {"args": […], "kwargs": {…}} is both kinds; '
    "anything else, a list too, is the one positional argument"
)
WHEN = "30s, 1h30m, 2w, a number of seconds, or a moment in ISO 8601"
_SHOWN = 3


def run_id(text: str) -> UUID:
    """A run's id as it is shown anywhere, or a beginning that no other run's id has."""
    try:
        return UUID(text.removeprefix("run_"))
    except ValueError:
        return _begun_with(text)


def run_ids(texts: Iterable[str]) -> list[UUID]:
    """The ids of several runs, each once however often it is named: the second try would be refused."""
    return list(dict.fromkeys(map(run_id, texts)))


def _begun_with(text: str) -> UUID:
    possible = id_range(text)
    if possible is None:
        raise CommandError(f"{text!r} is no run's id, nor the beginning of one: 4 to 32 hexadecimal digits")
    found = list(Run.objects.filter(pk__range=possible).order_by("pk").values_list("pk", flat=True)[: _SHOWN + 1])
    if not found:
        raise CommandError(f"there is no run whose id begins with {text!r}")
    if len(found) > 1:
        some = [ids.show("run", each) for each in found[:_SHOWN]]
        shown = ", ".join(some) + (", …" if len(found) > _SHOWN else "")
        raise CommandError(f"several runs' ids begin with {text!r}: {shown}. Give more of it.")
    return found[0]


def json_of(text: str, what: str) -> Json:
    """An argument in JSON."""
    try:
        return json.loads(tokens.value_of(text.encode(errors="surrogatepass")))
    except ValueError as error:
        raise CommandError(f"{what} is not JSON that can be stored: {error}") from error


def span(option: str, text: str | float, *, unit: str = "seconds") -> timedelta:
    """A length of time as an argument: `1h30m`, or a number of `unit`."""
    return durations.duration(option, _number(text), unit=unit)


def when(option: str, text: str | float) -> timedelta | datetime:
    """A time from now as an argument: `1h30m`, a number of seconds, or a moment in ISO 8601."""
    return durations.deadline(option, _number(text))


def _number(text: str | float) -> str | float:
    """Of an argument that is a number that number, of any other its text."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else str(text)


def count_to(most: int, *, least: int = 1) -> Callable[[str], int]:
    """A number up to so many, as the type of an argument."""

    def count(text: str) -> int:
        if not text.isdecimal() or not least <= int(text[:10]) <= most:
            raise ArgumentTypeError(f"{text!r} must be a whole number from {least} to {most:,}")
        return int(text)

    return count


def actor() -> str:
    """Whom the audit log names."""
    try:
        return f"shell {getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "shell"


def add_environment(parser: Any) -> None:
    """The option of whatever belongs to one environment."""
    parser.add_argument("--environment", help="default: the one of the settings")


@contextmanager
def environment_to_make_in(options: dict[str, Any], stderr: OutputWrapper) -> Iterator[str]:
    """The name of the environment that something is made in; if that made it too, says so: it may be a typo."""
    name: str = options["environment"] or conf.get().ENVIRONMENT
    is_new = conf.ENVIRONMENT_NAME.fullmatch(name) and not environments.is_known(name)
    yield name
    if is_new:
        stderr.write(f"{name} is a new environment: nothing runs in it until a process has that name in its settings.")


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
    """What the options say. Raises `BadInput` for an environment that there is not."""
    if options["environment"]:
        environments.find(options["environment"])
    names = ("task", "queue", "tag", "period", "root")
    return Selection(
        status=tuple(options["status"]),
        environment=options["environment"] or conf.get().ENVIRONMENT,
        **{name: options[name] for name in names},
    )


def nothing(period: str) -> str:
    """What is said where no run is left by the filters."""
    return "No run matches." if PERIODS[period] is None else f"No run of the last {period} matches."


def is_filtered(options: dict[str, Any]) -> bool:
    """Whether any condition was given but the time."""
    return any(options[name] for name in ("status", "task", "queue", "tag", "root"))
