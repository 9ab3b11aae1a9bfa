"""Tokens: waits that whoever holds them can complete, by id or by a URL nobody can guess.

The URL's secret is derived, not stored: a copy of the table completes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings

from triggerapp import conf
from triggerapp.engine import environments, triggers, waits


def create(
    timeout: timedelta | None,
    *,
    tags: Sequence[str] = (),
    idempotency_key: str | None = None,
    idempotency_ttl: timedelta = timedelta(hours=1),
) -> UUID:
    """A token that belongs to no run yet."""
    digest = None if idempotency_key is None else triggers.digest(idempotency_key)
    token, _ = waits.create_token(
        environments.current(),
        run_id=None,
        key="",
        deadline=timeout,
        tags=tags,
        idempotency_digest=digest,
        idempotency_ttl=idempotency_ttl if digest else None,
    )
    return token


def secret(token: UUID) -> str:
    """What the callback URL proves knowledge of: 256 bits."""
    return hmac.new(settings.SECRET_KEY.encode(), b"triggerapp.token:" + token.bytes, hashlib.sha256).hexdigest()


def url(token: UUID) -> str:
    """Where a POST completes the token."""
    return f"{conf.get().BASE_URL.rstrip('/')}/api/v1/waitpoints/tokens/waitpoint_{token}/callback/{secret(token)}"


def is_secret(token: UUID, candidate: str) -> bool:
    """Whether `candidate` is the token's secret, in constant time."""
    return hmac.compare_digest(secret(token), candidate)


def value_of(body: bytes) -> str:
    """A body from outside as JSON text that can be stored. Raises `ValueError`; tags of our own are taken as data."""
    value = json.loads(body, parse_constant=_refuse_constant)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text or "\0" in text:
        raise ValueError("it contains a NUL character")
    text.encode()  # a lone surrogate cannot be stored
    if '"$type"' in text:
        raise ValueError('the key "$type" is reserved')
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def complete(token: UUID, value: str, *, by: str = "") -> bool:
    """Complete the token with JSON text; False if it was completed, canceled or timed out before."""
    return waits.resolve(token, value, by=by)
