"""Small secrets at rest: encrypted with the keys of the settings, each for the one place that it belongs to.

Keys rotate: the first one seals, all of them open. What was sealed for another place does not open, so nobody who can
write rows moves a secret to where they can read it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from triggerapp import conf
from triggerapp.errors import UnreadableSecret


def seal(value: str, place: str) -> bytes:
    """`value`, to be opened for `place` only."""
    return _ring().encrypt(json.dumps([place, value]).encode())


def unseal(sealed: bytes, place: str) -> str:
    """What was sealed for `place`. Raises `UnreadableSecret`."""
    try:
        found, value = json.loads(_ring().decrypt(bytes(sealed)))
    except InvalidToken as error:
        raise UnreadableSecret(
            f"{place} was encrypted with a key that is not here: add it to TRIGGERAPP['SECRETS_KEYS'] (or the "
            "SECRET_KEY of that time to SECRET_KEY_FALLBACKS), or set the value anew"
        ) from error
    if found != place:
        raise UnreadableSecret(f"{place} holds what was encrypted for another place: set the value anew")
    return str(value)


def opens(sealed: bytes) -> bool:
    """Whether one of the keys is the one that it was sealed with."""
    try:
        _ring().decrypt(sealed)
    except InvalidToken:
        return False
    return True


def _ring() -> MultiFernet:
    fallbacks = tuple(settings.SECRET_KEY_FALLBACKS)
    return _ring_of(conf.get().SECRETS_KEYS, (settings.SECRET_KEY, *fallbacks))


@lru_cache(maxsize=4)
def _ring_of(keys: str, secrets: tuple[str | bytes, ...]) -> MultiFernet:
    """The keys of the settings; without any, those that SECRET_KEY and its fallbacks stand for."""
    return MultiFernet([Fernet(key) for key in keys.replace(",", " ").split() or map(_derived, secrets)])


def _derived(secret: str | bytes) -> bytes:
    raw = secret.encode() if isinstance(secret, str) else secret
    return base64.urlsafe_b64encode(hashlib.sha256(b"triggerapp secrets: " + raw).digest())
