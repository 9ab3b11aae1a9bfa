"""Secret keys and personal tokens: made once, shown once, found by their prefix and compared by their digest.

A key is 143 bits from the system's generator; of such a secret one round of SHA-256 gives nothing away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from triggerapp.clock import now
from triggerapp.engine import audit, environments, limits, sql
from triggerapp.engine import secrets as secretbox
from triggerapp.engine.sql import Lock
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import ApiKey

Json = Any

SHORT_NAMES = {"dev": "dev", "staging": "stg", "prod": "prod"}
"""Environments as keys name them; any other is a `preview`."""
VERBS = ("admin", "read", "write", "trigger", "batchTrigger")
KINDS = (
    *("all", "batch", "deliveries", "deployments", "envvars", "events", "metrics", "publicTokens", "queues", "runs"),
    *("schedules", "tags", "tasks", "waitpoints", "webhooks", "whoami"),
)
"""What a scope may name behind its verb: some route asks for it."""
MOST_PERSONAL = 50
"""Tokens of one user that stand at a time."""
PERSONAL = "tr_pat_"
"""How a personal token begins: that of a user, who names the environment in each request."""

# With `sk` it is the form of an additional key: of such a one Trigger.dev's SDK asks the server for public tokens. With
# a root key it signs them itself, and to check those the server has to keep the key.
_FORM = re.compile(r"tr_(?:(?:dev|stg|prod|preview)_(?:sk_[0-9A-Za-z]{24}|[0-9A-Za-z]{32})|pat_[0-9A-Za-z]{32})")
_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 24
_LONG_CHARACTERS = 32
_SHOWN_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new key, with the only copy of its text."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A key that somebody presented, with its standing."""

    id: int
    prefix: str
    environment: int
    slug: str
    owner: str
    """Whose personal token it is; such a one has no environment (0) and no scopes: its user's permissions are its."""
    scopes: tuple[str, ...]
    expired: bool
    revoked: bool


@transaction.atomic
def create(
    environment: str,
    name: str,
    *,
    scopes: Sequence[str] = ("admin",),
    ttl: timedelta | None = None,
    root: bool = False,
    actor: str = "",
) -> Issued:
    """A new key of the environment of that name. Who has a root key signs public tokens with it, without asking."""
    if root and set(scopes) - {"admin"}:
        raise BadInput("a root key may do everything: what it signs is not asked about")
    for scope in scopes:
        check_scope(scope)
        _check_kind(scope)
    its = environments.named(environment)
    start = f"tr_{SHORT_NAMES.get(environment, 'preview')}_" + ("" if root else "sk_")
    text = start + _secret(_LONG_CHARACTERS if root else _SECRET_CHARACTERS)
    sealed = secretbox.seal(text, _prefix(text)) if root else None
    key = ApiKey(environment=its, sealed=sealed, scopes=list(scopes) or ["admin"])
    return _issued(key, text, name, ttl=ttl, actor=actor, noted={"scopes": key.scopes, "root": root})


@transaction.atomic
def create_personal(owner: str, name: str, *, ttl: timedelta | None = None, actor: str = "") -> Issued:
    """A new personal token of the user with this primary key: it may do what they may, for as long as they may."""
    # Two that are made at once would not count each other. Not the user's row: it may be in another database.
    sql.lock(Lock(0, f"personal tokens of {owner}"))
    standing = ApiKey.objects.filter(owner=owner, revoked_at=None).exclude(expires_at__lte=now())
    if standing.count() >= MOST_PERSONAL:
        raise BadInput(f"there are {MOST_PERSONAL} personal tokens of this user already: revoke some that are not used")
    text = PERSONAL + _secret(_LONG_CHARACTERS)
    return _issued(ApiKey(owner=owner, scopes=[]), text, name, ttl=ttl, actor=actor, noted={"owner": owner})


def _issued(key: ApiKey, text: str, name: str, *, ttl: timedelta | None, actor: str, noted: dict[str, Json]) -> Issued:
    limits.check_text("name", name)
    limits.check_more_than_nothing("ttl", ttl)
    limits.check_deadline("ttl", ttl)
    key.name, key.prefix, key.digest = name, _prefix(text), _digest(text)
    key.created_by, key.expires_at = actor or "code", None if ttl is None else now() + ttl
    key.save()
    audit.record(key.environment_id, actor, "key.create", key.prefix, after={"name": name, **noted})
    return Issued(key=key, text=text)


def _secret(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


def root_key(key: int) -> str | None:
    """The text of a root key; None if it is none."""
    row = sql.row("SELECT sealed, prefix FROM triggerapp_apikey WHERE id = %s AND sealed IS NOT NULL", [key])
    return None if row is None else secretbox.unseal(row["sealed"], row["prefix"])


def _prefix(text: str) -> str:
    """The readable beginning of a key."""
    start, _, secret = text.rpartition("_")
    return f"{start}_{secret[:_SHOWN_CHARACTERS]}"


def check_scope(scope: str) -> None:
    """A scope is a verb, a verb and a kind of row, or those and the id of one row."""
    limits.check_text("a scope", scope)
    verb, *rest = scope.split(":", 2)
    if verb not in VERBS or not all(rest):
        raise BadInput(f"the scope {scope!r} must be {', '.join(VERBS)}, or one of them with a kind, as in read:runs")


def _check_kind(scope: str) -> None:
    """A key that opens nothing is a slip of whoever makes it. Tokens for browsers are made by programs, of any age."""
    kind = [*scope.split(":", 2), ""][1]
    if kind and kind not in KINDS:
        raise BadInput(f"the scope {scope!r} names no kind that a route asks for: these are {', '.join(KINDS)}")


_FIND = sql.Hot(
    "SELECT k.id, k.prefix, k.digest, COALESCE(e.id, 0) AS environment, COALESCE(e.slug, '') AS slug, "
    "k.owner, k.scopes, "
    "COALESCE(k.expires_at <= now(), false) AS expired, k.revoked_at IS NOT NULL AS revoked, "
    "COALESCE(k.last_used_at < now() - interval '1 minute', true) AS unnoted "
    "FROM triggerapp_apikey k LEFT JOIN triggerapp_environment e ON e.id = k.environment_id WHERE "
)
_BY_PREFIX = sql.Hot(_FIND + "k.prefix = %s")
_BY_ID = sql.Hot(_FIND + "k.id = %s")
_USED = sql.Hot("UPDATE triggerapp_apikey SET last_used_at = now() WHERE id = %s")


def find(text: str) -> Known | None:
    """The key of this text, however it stands; None if there is none."""
    if not _FORM.fullmatch(text):
        return None
    row = sql.row(_BY_PREFIX, [_prefix(text)])
    if row is None or not hmac.compare_digest(row["digest"], _digest(text)):
        return None
    if row["unnoted"]:
        sql.run(_USED, [row["id"]])
    return _known(row)


def by_id(key: int) -> Known | None:
    """The key that a public token was made with: one of an environment."""
    row = sql.row(_BY_ID, [key])
    return None if row is None or row["owner"] else _known(row)


def _known(row: sql.Row) -> Known:
    fields = {name: row[name] for name in ("id", "prefix", "environment", "slug", "owner", "expired", "revoked")}
    return Known(**fields, scopes=tuple(row["scopes"]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def revoke(prefix: str, *, owner: str | None = None, actor: str = "") -> ApiKey:
    """Refuse the key, and every public token made with it, from now on; with `owner` only theirs. Raises `NotFound`."""
    with transaction.atomic():
        found = ApiKey.objects.select_for_update().filter(prefix=prefix)
        key = found.first() if owner is None else found.filter(owner=owner).first()
        if key is None:
            raise NotFound(f"there is no key {prefix}")
        if key.revoked_at is None:
            key.revoked_at = now()
            key.save(update_fields=["revoked_at"])
            audit.record(key.environment_id, actor, "key.revoke", prefix)
    return key


_SPEND = "INSERT INTO triggerapp_spenttoken (id, expires_at) VALUES (%s, to_timestamp(%s)) ON CONFLICT DO NOTHING"


def spend(token: UUID, expires: float) -> bool:
    """Use a public token for one use; False if it was used before."""
    sql.run("DELETE FROM triggerapp_spenttoken WHERE expires_at < now()")
    return sql.run(_SPEND, [token, expires]) == 1
