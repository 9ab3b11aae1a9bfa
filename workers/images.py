"""Where this installation keeps process images, and with what they are made, sealed and thawed: from the settings."""

from __future__ import annotations

import hashlib
import logging
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from uuid import UUID

from django.conf import settings

import checkpoint
from checkpoint import Archive, CheckpointError, Criu, DirectoryStore, Host, Keyring
from triggerapp import conf
from triggerapp.engine import checkpoints
from workers import identity

log = logging.getLogger(__name__)

_GRACE = timedelta(minutes=10)
"""An image is stored before its row is committed, and its worker may be slow in between."""


@dataclass(frozen=True, slots=True)
class Images:
    """What a worker dumps and restores with."""

    archive: Archive
    criu: Criu
    host: Host


@cache
def here() -> Images:
    """For this process. Raises `checkpoint.Unsupported` if there is no CRIU."""
    criu = checkpoint.driver()
    host = Host.here(criu=criu.binary.version, mode=criu.mode.value)
    home = identity.home()
    assert home is not None, "only processes of a worker that makes images come here"
    archive = Archive(store=store(), keyring=keyring(), scratch=home / "images", limit=conf.get().CHECKPOINT_MAX_BYTES)
    return Images(archive, criu, host)


def store() -> DirectoryStore:
    """The image store of the settings."""
    return DirectoryStore(Path(conf.get().CHECKPOINT_STORE).expanduser())


def keyring() -> Keyring:
    """The keys of the settings; without any, those that SECRET_KEY and its fallbacks stand for."""
    given = conf.get().CHECKPOINT_KEYS
    keys = {name: b64decode(text) for name, text in given.items()} or dict(
        map(_derived, [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])
    )
    return Keyring(current=next(iter(keys)), keys=keys)


def _derived(secret: str | bytes) -> tuple[str, bytes]:
    raw = secret.encode() if isinstance(secret, str) else secret
    key = hashlib.sha256(b"triggerapp checkpoints: " + raw).digest()
    return f"secret-key-{hashlib.sha256(key).hexdigest()[:8]}", key


def delete(ids: Iterable[UUID | None]) -> None:
    """Delete these images; one that cannot be deleted now is found by a later `sweep`."""
    for image in filter(None, ids):
        try:
            store().delete(image)
        except CheckpointError as problem:
            log.warning("an image that is not needed any more stays: %s", problem)


def tidy() -> None:
    """Delete the images of runs that are over."""
    delete(checkpoints.discard_ended())


def sweep() -> None:
    """Delete what no run has: images whose worker died before the commit, or whose row another host deleted."""
    checkpoint.collect(store(), checkpoints.kept(), older_than=_GRACE)
