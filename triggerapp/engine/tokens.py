"""Tokens: waits that whoever holds them can complete, by id or by a URL nobody can guess.

The URL's secret is derived, not stored: a copy of the table completes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, transaction

from triggerapp import conf
from triggerapp.engine import audit, environments, limits, sql, strictjson, triggers, waits
from triggerapp.errors import DatabaseUnavailable
from triggerapp.models import Wait


def create(
    timeout: timedelta | None,
    *,
    tags: Sequence[str] = (),
    idempotency_key: str | None = None,
    idempotency_ttl: timedelta = timedelta(hours=1),
) -> UUID:
    """A token that belongs to no run yet."""
    digest = None if idempotency_key is None else triggers.digest(idempotency_key)
    sql.revive()
    try:
        token, _ = waits.create_token(
            environments.current(),
            run_id=None,
            key="",
            deadline=timeout,
            tags=tags,
            idempotency_digest=digest,
            idempotency_ttl=idempotency_ttl if digest else None,
        )
    except OperationalError as error:
        why = sql.reason(error)
        raise DatabaseUnavailable(f"the token was not created: the database did not answer ({why})") from error
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A token; `cached` if its idempotency key had it before."""

    id: UUID
    cached: bool


KEY_TTL = timedelta(hours=1)
"""How long an idempotency key finds its token, unless it says otherwise."""


def issue(
    environment: int,
    timeout: triggers.Deadline,
    *,
    tags: Sequence[str],
    idempotency_key: str | None,
    idempotency_ttl: timedelta,
    actor: str,
) -> Issued:
    """A token that somebody outside asked for."""
    limits.check_deadline("timeout", timeout)
    limits.check_text("idempotencyKey", idempotency_key, most=limits.KEY_CHARACTERS)
    limits.check_more_than_nothing("idempotencyKeyTTL", idempotency_ttl)
    digest = None if idempotency_key is None else triggers.digest(idempotency_key)
    with transaction.atomic():
        token, cached = waits.create_token(
            environment,
            run_id=None,
            key="",
            deadline=timeout,
            tags=tags,
            idempotency_digest=digest,
            idempotency_ttl=idempotency_ttl if digest else None,
        )
        if not cached:
            audit.record(environment, actor, "token.create", token)
    return Issued(id=token, cached=cached)


def status(token: UUID) -> str:
    """How the token stands; empty if it is gone."""
    return Wait.objects.filter(pk=token).values_list("status", flat=True).first() or ""


def secret(token: UUID) -> str:
    """What the callback URL proves knowledge of: 256 bits."""
    return hmac.new(settings.SECRET_KEY.encode(), b"triggerapp.token:" + token.bytes, hashlib.sha256).hexdigest()


def url(token: UUID) -> str:
    """Where a POST completes the token."""
    return conf.get().BASE_URL.rstrip("/") + path(token)


def path(token: UUID) -> str:
    """The same, without the host."""
    return f"/api/v1/waitpoints/tokens/waitpoint_{token}/callback/{secret(token)}"


def is_secret(token: UUID, candidate: str) -> bool:
    """Whether `candidate` is the token's secret, in constant time."""
    return hmac.compare_digest(secret(token).encode(), candidate.encode())


def value_of(body: bytes) -> str:
    """A body from outside as JSON text that can be stored. Raises `ValueError`, also for tags of our own."""
    value = strictjson.loads(body, pairs=_untagged)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if limits.NUL.search(text):
        raise ValueError("it contains a NUL character")
    if limits.storable(text) != text:
        raise ValueError("it contains half a surrogate pair")
    return text


def _untagged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a key that is there twice the last one counts, as in a webhook: what others post to a token's URL is theirs.
    if any(key == "$type" for key, _ in pairs):
        raise ValueError('the key "$type" is reserved')
    return dict(pairs)


def complete(token: UUID, value: str, *, by: str = "") -> bool:
    """Complete the token with JSON text; False if it was completed, canceled or timed out before."""
    return waits.resolve(token, value, by=by)


def complete_as(token: UUID, value: str, *, environment: int, actor: str) -> bool:
    """The same, by somebody with a key, which is noted."""
    with transaction.atomic():
        won = waits.resolve(token, value, by=actor)
        if won:
            audit.record(environment, actor, "token.complete", token)
    return won


_OLD = "environment_id = %s AND run_id IS NULL AND resolved_at < now() - %s"


def prune(limit: int = 1000) -> int:
    """Delete tokens of no run that were resolved longer ago than runs are kept; how many."""
    params = [environments.current(), conf.get().RUN_RETENTION]
    return sql.delete_some("triggerapp_wait", _OLD, params, limit=limit)
