"""Where this installation keeps process images, and what opens them: from the settings."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from functools import cache
from os.path import expanduser
from uuid import UUID

from django.conf import settings

from checkpoint import CheckpointError, Keyring, Store, store_at
from triggerapp import conf
from triggerapp.engine import environments
from triggerapp.models import Environment

log = logging.getLogger(__name__)


def store() -> Store:
    """The image store of the settings; in it, what is of this environment of this database."""
    return _opened(expanduser(conf.get().CHECKPOINT_STORE), environments.current())


@cache
def _opened(place: str, environment: int) -> Store:
    """Others may keep their images at the same place, and each deletes what none of its runs has."""
    found = Environment.objects.get(pk=environment)
    return store_at(place).beside(f"{found.slug}-{found.created_at:%Y%m%d%H%M%S%f}")


def keyring() -> Keyring:
    """The keys of the settings; without any, those that SECRET_KEY and its fallbacks stand for."""
    if conf.get().CHECKPOINT_KEYS:
        return Keyring.parse(conf.get().CHECKPOINT_KEYS)
    keys = dict(map(_derived, [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]))
    return Keyring(current=next(iter(keys)), keys=keys)


def _derived(secret: str | bytes) -> tuple[str, bytes]:
    raw = secret.encode() if isinstance(secret, str) else secret
    key = hashlib.sha256(b"triggerapp checkpoints: " + raw).digest()
    return f"secret-key-{hashlib.sha256(key).hexdigest()[:8]}", key


def delete(ids: Iterable[UUID | None]) -> int:
    """Delete these images; how many were there. One that cannot be deleted now is found by a later sweep."""
    deleted = 0
    for image in filter(None, ids):
        try:
            deleted += store().delete(image)
        except CheckpointError as problem:
            log.warning("an image that is not needed any more stays: %s", problem)
    return deleted
