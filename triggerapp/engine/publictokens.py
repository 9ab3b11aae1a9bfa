"""Public tokens: short-lived JWTs that may do a few named things, for browsers and other places without secrets.

Signed here with a key derived from `SECRET_KEY`, or by the holder of a root key with that; each names the secret key
that it was made with, and is refused with it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import jwt
from django.conf import settings

from triggerapp.engine import keys
from triggerapp.errors import BadInput, UnreadableSecret

Json = Any

ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"
"""What Trigger.dev's SDK writes and expects; names, not addresses that anybody calls."""
_ALGORITHM = "HS256"
_LONGEST = timedelta(days=30)
_SCOPES = 100
_LEEWAY = 60.0
"""Seconds that the clock of who signs may be ahead."""
_UNNAMED = UUID("6f1d7e0e-58a5-4a4e-9f4c-3d0c1f6f2b7a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A token whose signature and time are right."""

    id: UUID
    key: int
    scopes: tuple[str, ...]
    once: bool
    expires: float


def issue(
    key: int, environment: str, scopes: Sequence[str], *, ttl: timedelta, once: bool = False, realtime: Json = None
) -> str:
    """A token with these scopes, made with this secret key. Raises `BadInput`."""
    if not 0 < len(scopes) <= _SCOPES:
        raise BadInput(f"a public token has 1 to {_SCOPES} scopes")
    for scope in scopes:
        keys.check_scope(scope)
    if not timedelta() < ttl <= _LONGEST:
        raise BadInput(f"a public token lives for more than nothing and at most {_LONGEST.days} days")
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        **claims_of(key, environment),
        "jti": str(uuid4()),
        "scopes": list(scopes),
        "iat": int(time.time()),
        "exp": int(time.time() + ttl.total_seconds()),
        **({"otu": True} if once else {}),
        **({} if realtime is None else {"realtime": realtime}),
    }
    return jwt.encode(claims, _secret(), algorithm=_ALGORITHM)


def claims_of(key: int, environment: str) -> dict[str, Json]:
    """What a token says of the key that it is made with. A token made here has an id besides."""
    return {"sub": environment, "pub": True, "key": key}


def open_token(text: str) -> Opened:
    """What a token says. Raises `ValueError` with the reason if it is not ours, altered or too old."""
    try:
        claims = jwt.decode(
            text,
            _secret_of(text),
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "sub"]},
        )
        if claims["exp"] > time.time() + _LONGEST.total_seconds() + _LEEWAY:
            raise ValueError("too long")
        return Opened(
            id=UUID(claims["jti"]) if "jti" in claims else uuid5(_UNNAMED, text),
            key=int(claims["key"]),
            scopes=tuple(map(str, claims.get("scopes") or ())),
            once=bool(claims.get("otu")),
            expires=float(claims["exp"]),
        )
    except jwt.ExpiredSignatureError as error:
        raise ValueError("the public token has expired") from error
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError, UnreadableSecret) as error:
        raise ValueError("the public token is not valid") from error


def _secret_of(text: str) -> bytes:
    """What a token must be signed with: ours, if it has an id of ours, else the root key that it names."""
    claims = jwt.decode(text, options={"verify_signature": False})
    if "jti" in claims:
        return _secret()
    number = claims["key"]
    root = keys.root_key(number) if type(number) is int and 0 < number < 2**63 else None
    if root is None:
        raise ValueError("only the holder of a root key signs tokens")
    return root.encode()


def _secret() -> bytes:
    return hmac.new(settings.SECRET_KEY.encode(), b"triggerapp.publictoken", hashlib.sha256).digest()
