"""With what a worker makes, stores and restores the images of its runs; and the deletion of those that nobody needs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import checkpoint
from checkpoint import Archive, CheckpointError, Driver, Host
from triggerapp import conf, imagestore
from triggerapp.engine import checkpoints
from workers import identity

log = logging.getLogger(__name__)

_GRACE = timedelta(minutes=10)
"""An image is stored before its row is committed, and its worker may be slow in between."""


@dataclass(frozen=True, slots=True)
class Images:
    """What a worker dumps and restores with."""

    archive: Archive
    criu: Driver
    host: Host


@cache
def here() -> Images:
    """For this process. Raises `checkpoint.Unsupported` if there is no CRIU."""
    criu = checkpoint.driver()
    home = identity.home()
    assert home is not None, "only processes of a worker that makes images come here"
    archive = Archive(
        store=imagestore.store(),
        keyring=imagestore.keyring(),
        scratch=home / "images",
        limit=conf.get().CHECKPOINT_MAX_BYTES,
        quota=conf.get().CHECKPOINT_QUOTA_BYTES or None,
    )
    return Images(archive, criu, Host.here(criu=criu.version, mode=criu.mode.value))


def tidy() -> None:
    """Delete the images of runs that are over."""
    imagestore.delete(checkpoints.discard_ended())


def sweep() -> None:
    """Delete what no run has: images whose worker died before the commit, or whose row another host deleted."""
    try:
        checkpoint.collect(imagestore.store(), checkpoints.kept(), older_than=_GRACE)
    except CheckpointError as problem:
        log.warning("the image store is not swept: %s", problem)
