"""Garbage: checkpoints that no row names any more, and bases that no checkpoint needs.

What is younger than the grace stays: its row may not be committed yet, its checkpoint not written.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryFile
from typing import BinaryIO
from uuid import UUID

from checkpoint import pack
from checkpoint.errors import Damaged, Exists, Missing
from checkpoint.store import Store, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was deleted."""

    checkpoints: int = 0
    bases: int = 0
    leftovers: int = 0
    """Half-written files of writers that died."""
    size: int = 0


def collect(store: Store, keep: Container[UUID], *, older_than: timedelta) -> Collected:
    """Delete what `keep` does not name and what is older than the grace, and the bases that then nothing needs."""
    bases = store.beside("bases")
    leftovers = store.sweep(older_than=older_than) + bases.sweep(older_than=older_than)
    checkpoints = [stored for stored in _old(store, older_than) if stored.id not in keep and store.delete(stored.id)]
    unneeded = list(_collect_bases(store, bases, older_than))
    return Collected(
        checkpoints=len(checkpoints),
        bases=len(unneeded),
        leftovers=leftovers,
        size=sum(stored.size for stored in (*checkpoints, *unneeded)),
    )


def _collect_bases(store: Store, bases: Store, older_than: timedelta) -> Iterator[Stored]:
    candidates = list(_old(bases, older_than))
    if not candidates:
        return
    needed = _needed(store)
    for stored in candidates:
        if stored.id not in needed and _delete_base(store, bases, stored):
            yield stored


def _delete_base(store: Store, bases: Store, stored: Stored) -> bool:
    """Delete it, look again, and put it back if a checkpoint that came meanwhile needs it.

    A writer makes sure of its base after its checkpoint is there. So either it finds the base gone, and stores it
    again, or we find the checkpoint.
    """
    with TemporaryFile() as copy:
        try:
            with bases.get(stored.id) as source:
                _copy(source, copy)
        except Missing:
            return False
        deleted = bases.delete(stored.id)
        if stored.id not in _needed(store):
            return deleted
        copy.seek(0)
        with suppress(Exists):
            bases.put(stored.id, lambda sink: _copy(copy, sink))
    return False


def _needed(store: Store) -> set[UUID]:
    return {id for stored in store.list() if (id := _base_of(store, stored.id)) is not None}


def _base_of(store: Store, id: UUID) -> UUID | None:
    try:
        with store.get(id) as source:
            return pack.read_base(source)
    except (Missing, Damaged):  # deleted meanwhile, or of no use
        return None


def _old(store: Store, grace: timedelta) -> Iterator[Stored]:
    limit = datetime.now(UTC) - grace
    return (stored for stored in list(store.list()) if stored.written < limit)


def _copy(source: BinaryIO, sink: BinaryIO) -> None:
    while piece := source.read(1 << 20):
        sink.write(piece)
