"""Secret keys: made once, shown once, found by their prefix and compared by their digest.

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
from uuid import UUID

from django.db import transaction

from triggerapp.clock import now
from triggerapp.engine import audit, limits, sql
from triggerapp.engine import secrets as secretbox
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import ApiKey, Environment

SHORT_NAMES = {"dev": "dev", "staging": "stg", "prod": "prod"}
"""Environments as keys name them; any other is a `preview`."""
VERBS = ("admin", "read", "write", "trigger", "batchTrigger")

# With `sk` it is the form of an additional key: of such a one Trigger.dev's SDK asks the server for public tokens. With
# a root key it signs them itself, and to check those the server has to keep the key.
_FORM = re.compile(r"tr_(?:dev|stg|prod|preview)_(?:sk_[0-9A-Za-z]{24}|[0-9A-Za-z]{32})")
_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 24
_ROOT_CHARACTERS = 32
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
    scopes: tuple[str, ...]
    expired: bool
    revoked: bool


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
    limits.check_text("name", name)
    limits.check_more_than_nothing("ttl", ttl)
    for scope in scopes:
        check_scope(scope)
    owner, _ = Environment.objects.get_or_create(slug=environment)
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_ROOT_CHARACTERS if root else _SECRET_CHARACTERS))
    start = f"tr_{SHORT_NAMES.get(environment, 'preview')}_" + ("" if root else "sk_")
    with transaction.atomic():
        key = ApiKey.objects.create(
            environment=owner,
            name=name,
            prefix=_prefix(start + secret),
            digest=_digest(start + secret),
            sealed=secretbox.seal(start + secret, _prefix(start + secret)) if root else None,
            scopes=list(scopes) or ["admin"],
            created_by=actor or "code",
            expires_at=None if ttl is None else now() + ttl,
        )
        after = {"name": name, "scopes": list(key.scopes), "root": root}
        audit.record(owner.pk, actor, "key.create", key.prefix, after=after)
    return Issued(key=key, text=start + secret)


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


_FIND = sql.Hot(
    "SELECT k.id, k.prefix, k.digest, k.environment_id AS environment, e.slug, k.scopes, "
    "COALESCE(k.expires_at <= now(), false) AS expired, k.revoked_at IS NOT NULL AS revoked, "
    "COALESCE(k.last_used_at < now() - interval '1 minute', true) AS unnoted "
    "FROM triggerapp_apikey k JOIN triggerapp_environment e ON e.id = k.environment_id WHERE "
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
    """The key that a public token was made with."""
    row = sql.row(_BY_ID, [key])
    return None if row is None else _known(row)


def _known(row: sql.Row) -> Known:
    fields = {name: row[name] for name in ("id", "prefix", "environment", "slug", "expired", "revoked")}
    return Known(**fields, scopes=tuple(row["scopes"]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def revoke(prefix: str, *, actor: str = "") -> ApiKey:
    """From now on the key, and every public token made with it, is refused. Raises `NotFound`."""
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().filter(prefix=prefix).first()
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
