"""`manage.py destinations`: addresses that hear how runs end, by webhooks that we sign (Standard Webhooks).

The secret is printed once, when it is made, and of an address its origin only: what follows is often a secret too.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from triggerapp import conf
from triggerapp.api.destinations import rendered
from triggerapp.engine import destinations, posting
from triggerapp.engine.destinations import Issued
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import actor, add_environment, environment_to_make_in
from triggerapp.management.output import dump, table
from triggerapp.models import Destination

_COLUMNS = ("environment", "name", "origin", "wants", "tasks", "state", "secret")


class Command(BaseCommand):
    """Makes, lists, rotates, disables, enables and removes destinations."""

    help = "Where notices of ended runs go: create, list, rotate, disable, enable, remove."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a destination; its secret is shown once")
        _add_name(create)
        create.add_argument("url", help="https://…")
        create.add_argument(
            "--want",
            action="append",
            choices=destinations.KINDS,
            default=[],
            help=f"what it hears of; repeatable (default: {', '.join(destinations.FAILURES)})",
        )
        create.add_argument("--task", action="append", default=[], help="only of runs of this task; repeatable")
        listing = verbs.add_parser("list", help="show destinations, never their secrets")
        listing.add_argument("--environment", help="default: all")
        listing.add_argument("--json", action="store_true", help="for machines")
        _add_name(verbs.add_parser("rotate", help="another secret, at once"))
        _add_name(verbs.add_parser("disable", help="tell it nothing from now on"))
        _add_name(verbs.add_parser("enable", help="tell it again"))
        _add_name(verbs.add_parser("remove", help="forget it"))

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        if options["verb"] != "list":
            options["environment"] = options["environment"] or conf.get().ENVIRONMENT
        getattr(self, f"_{options['verb']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        wants = options["want"] or destinations.FAILURES
        name, url, tasks = options["name"], options["url"], options["task"]
        with environment_to_make_in(options, self.stderr) as environment:
            issued = destinations.create(environment, name, url, wants=wants, tasks=tasks, actor=actor())
        self._show(issued)

    def _show(self, issued: Issued) -> None:
        self.stderr.write("Give the receiver this secret, to verify with; it is not shown again.")
        self.stdout.write(issued.secret)

    def _list(self, options: dict[str, Any]) -> None:
        found = destinations.all_of(options["environment"])
        if options["json"]:
            self.stdout.write(dump([{"environment": each.environment.slug, **rendered(each)} for each in found]))
        else:
            table(self.stdout, _COLUMNS, map(_cells, found))

    def _rotate(self, options: dict[str, Any]) -> None:
        self._show(destinations.rotate(options["environment"], options["name"], actor=actor()))

    def _disable(self, options: dict[str, Any]) -> None:
        destinations.set_disabled(options["environment"], options["name"], disabled=True, actor=actor())
        self.stdout.write(f"{options['name']} is disabled: it hears nothing")

    def _enable(self, options: dict[str, Any]) -> None:
        destinations.set_disabled(options["environment"], options["name"], disabled=False, actor=actor())
        self.stdout.write(f"{options['name']} is enabled")

    def _remove(self, options: dict[str, Any]) -> None:
        destinations.remove(options["environment"], options["name"], actor=actor())
        self.stdout.write(f"{options['name']} is gone")


def _add_name(parser: Any) -> None:
    parser.add_argument("name")
    add_environment(parser)


def _cells(each: Destination) -> tuple[str, ...]:
    return (
        each.environment.slug,
        each.name,
        posting.origin(each.url),
        ", ".join(each.wants),
        ", ".join(each.tasks) or "all",
        "disabled" if each.disabled_at else "enabled",
        f"…{each.hint}",
    )
