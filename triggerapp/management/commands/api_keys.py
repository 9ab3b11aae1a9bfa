"""`manage.py api_keys`: the secret keys of the REST API, and the personal tokens of users.

A key is printed once, when it is made; the database has its digest only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser

from triggerapp import levels
from triggerapp.api.rendering import when
from triggerapp.engine import keys, limits
from triggerapp.engine.keys import Issued
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import actor, add_environment, environment_to_make_in, span
from triggerapp.management.output import dump
from triggerapp.models import ApiKey


class Command(BaseCommand):
    """Makes, lists and revokes keys."""

    help = "Secret keys and personal tokens of the REST API: create, list, revoke."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a key; it is shown once")
        create.add_argument("--name", required=True, help="what it is for")
        add_environment(create)
        create.add_argument("--user", help="make a personal token of this user; it may do what they may")
        create.add_argument("--scope", action="append", default=[], help="such as read, or trigger:tasks; repeatable")
        create.add_argument("--days", help="how long it is valid, or as 36h (default: until revoked)")
        create.add_argument("--root", action="store_true", help="signs public tokens itself; kept here, encrypted")
        listing = verbs.add_parser("list", help="show keys, never their secrets")
        listing.add_argument("--json", action="store_true", help="for machines")
        revoke = verbs.add_parser("revoke", help="refuse a key from now on, and all public tokens made with it")
        revoke.add_argument("prefix", help="the readable beginning, as `list` shows it")

    def handle(self, *args: object, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        ttl = None if options["days"] is None else span("--days", options["days"], unit="days")
        limits.check_more_than_nothing("--days", ttl)
        issued = _personal(options, ttl) if options["user"] else self._of_environment(options, ttl)
        self.stderr.write("Keep it well: it is not shown again.")
        self.stdout.write(issued.text)

    def _of_environment(self, options: dict[str, Any], ttl: timedelta | None) -> Issued:
        name, scopes, root = options["name"], options["scope"] or ["admin"], options["root"]
        with environment_to_make_in(options, self.stderr) as environment:
            return keys.create(environment, name, scopes=scopes, ttl=ttl, root=root, actor=actor())

    def _list(self, options: dict[str, Any]) -> None:
        found = list(ApiKey.objects.select_related("environment").order_by("created_at"))
        names = levels.usernames(key.owner for key in found)
        if options["json"]:
            self.stdout.write(dump([_rendered(key, names) for key in found]))
            return
        for key in found:
            self.stdout.write("  ".join(_cells(key, names)))

    def _revoke(self, options: dict[str, Any]) -> None:
        key = keys.revoke(options["prefix"], actor=actor())
        self.stdout.write(f"revoked {key}")


def _personal(options: dict[str, Any], ttl: timedelta | None) -> Issued:
    if options["environment"] or options["scope"] or options["root"]:
        raise CommandError(
            "--user goes without --environment, --scope and --root: it may do what its user may, anywhere"
        )
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: options["user"]}).first()
    if user is None:
        raise CommandError(f"there is no user {options['user']!r}")
    return keys.create_personal(str(user.pk), options["name"], ttl=ttl, actor=actor())


def _rendered(key: ApiKey, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "environment": key.environment and key.environment.slug,
        "user": names.get(key.owner, key.owner) or None,
        "name": key.name,
        "scopes": key.scopes,
        "createdAt": when(key.created_at),
        "expiresAt": when(key.expires_at),
        "revokedAt": when(key.revoked_at),
        "lastUsedAt": when(key.last_used_at),
    }


def _cells(key: ApiKey, names: Mapping[str, str]) -> tuple[str, ...]:
    return (
        key.prefix,
        key.environment.slug if key.environment else "",
        names.get(key.owner, key.owner),
        key.name,
        ",".join(key.scopes),
        "revoked" if key.revoked_at else f"expires {key.expires_at}" if key.expires_at else "valid",
        str(key.last_used_at or "never used"),
    )
