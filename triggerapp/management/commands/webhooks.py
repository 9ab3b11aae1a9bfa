"""`manage.py webhooks`: endpoints that others post signed events to.

A secret that is made here is printed once; one that the provider made is read from standard input, where neither the
list of processes nor the shell's history sees it.
"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from triggerapp import conf
from triggerapp.api.webhooks import rendered
from triggerapp.engine import webhooks
from triggerapp.engine.signatures import Scheme
from triggerapp.engine.webhooks import Issued
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import actor, add_environment, environment_to_make_in, span
from triggerapp.management.output import dump, table
from triggerapp.models import Endpoint, Preset

_OPTIONS = ("signature", "signed", "mark", "separator", "timestamp", "id", "algorithm", "encoding", "type", "event_id")

_COLUMNS = ("environment", "name", "preset", "state", "secrets", "url")


class Command(BaseCommand):
    """Makes, lists, rotates, disables and enables endpoints."""

    help = "Endpoints for webhooks: create, list, rotate, disable, enable."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        _add_create(verbs.add_parser("create", help="make an endpoint; its secret is shown once"))
        listing = verbs.add_parser("list", help="show endpoints, never their secrets")
        listing.add_argument("--environment", help="default: all")
        listing.add_argument("--json", action="store_true", help="for machines")
        rotate = verbs.add_parser("rotate", help="another secret; the old ones stand for a while")
        _add_name(rotate)
        _add_given(rotate)
        rotate.add_argument("--keep-hours", default=24, help="how long, or as 30m or 2d (default: %(default)s)")
        for verb, what in (("disable", "refuse all deliveries from now on"), ("enable", "take deliveries again")):
            _add_name(verbs.add_parser(verb, help=what))

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        options["environment"] = options["environment"] or (
            None if options["verb"] == "list" else conf.get().ENVIRONMENT
        )
        getattr(self, f"_{options['verb']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        with environment_to_make_in(options, self.stderr) as environment:
            issued = webhooks.create(
                environment,
                options["name"],
                preset=options["preset"],
                secret=_given(options),
                options={name: options[name] for name in _OPTIONS if options[name] is not None},
                tolerance=span("--tolerance", options["tolerance"]),
                actor=actor(),
            )
        self._show(issued, is_ours=not options["given"])
        if options["preset"] == Preset.GENERIC:
            self.stderr.write(_told(webhooks.scheme_of(issued.endpoint)))
        self.stdout.write(webhooks.url(issued.endpoint))

    def _show(self, issued: Issued, *, is_ours: bool) -> None:
        if is_ours:
            self.stderr.write("Give the provider this secret; it is not shown again.")
            self.stdout.write(issued.secret)

    def _list(self, options: dict[str, Any]) -> None:
        found = webhooks.all_of(options["environment"])
        if options["json"]:
            self.stdout.write(dump([{"environment": each.environment.slug, **rendered(each)} for each in found]))
        else:
            table(self.stdout, _COLUMNS, map(_cells, found))

    def _rotate(self, options: dict[str, Any]) -> None:
        keep = span("--keep-hours", options["keep_hours"], unit="hours")
        environment, name = options["environment"], options["name"]
        issued = webhooks.rotate(environment, name, secret=_given(options), keep=keep, actor=actor())
        self._show(issued, is_ours=not options["given"])

    def _disable(self, options: dict[str, Any]) -> None:
        endpoint = webhooks.set_disabled(options["environment"], options["name"], disabled=True, actor=actor())
        self.stdout.write(f"{endpoint.name} is disabled: deliveries are refused")

    def _enable(self, options: dict[str, Any]) -> None:
        endpoint = webhooks.set_disabled(options["environment"], options["name"], disabled=False, actor=actor())
        self.stdout.write(f"{endpoint.name} is enabled")


def _add_name(parser: Any) -> None:
    parser.add_argument("name")
    add_environment(parser)


def _add_given(parser: Any) -> None:
    parser.add_argument(
        "--given", action="store_true", help="read the secret that the provider made from standard input"
    )


def _add_create(parser: Any) -> None:
    _add_name(parser)
    _add_given(parser)
    parser.add_argument("--preset", choices=Preset.values, default=Preset.STANDARD, help="default: %(default)s")
    parser.add_argument("--tolerance", default=300, help="seconds a signature is good, or as 5m (default: %(default)s)")
    generic = parser.add_argument_group("for --preset generic")
    generic.add_argument("--signature", help="the header with the signature (default: x-signature)")
    generic.add_argument("--signed", help="what is signed (default: {body}), such as {timestamp}.{body}")
    generic.add_argument("--mark", help="what a signature begins with, such as sha256=")
    generic.add_argument("--separator", help="between several things in the header")
    generic.add_argument("--timestamp", help="the header with the time, in seconds")
    generic.add_argument("--id", help="the header with the delivery's id, if it is signed")
    generic.add_argument("--algorithm", choices=("sha256", "sha384", "sha512"))
    generic.add_argument("--encoding", choices=("hex", "base64"))
    generic.add_argument("--type", help="where the event's type is: header:NAME or body:PATH")
    generic.add_argument("--event-id", help="where the event's id is: header:NAME or body:PATH")


def _given(options: dict[str, Any]) -> str | None:
    return sys.stdin.readline().strip() if options["given"] else None


def _told(scheme: Scheme) -> str:
    """What a delivery must have: the flags that were not given have a meaning too."""
    mark = f" after {scheme.mark!r}" if scheme.mark else ""
    also = " and ".join(filter(None, (scheme.timestamp, scheme.id)))
    return (
        f"Checked is the header {scheme.signature}: HMAC-{scheme.algorithm.upper()} of {scheme.signed} in "
        f"{scheme.encoding}{mark}" + (f"; {also} must be there too." if also else ". Flags of `create` change that.")
    )


def _cells(endpoint: Endpoint) -> tuple[str, ...]:
    return (
        endpoint.environment.slug,
        endpoint.name,
        endpoint.preset,
        "disabled" if endpoint.disabled_at else "enabled",
        ", ".join(str(secret) for secret in endpoint.secrets.all()),
        webhooks.url(endpoint),
    )
