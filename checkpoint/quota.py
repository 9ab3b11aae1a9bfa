"""How much a store may hold.

A guard against a store that grows without end, no exact bound: what is there is looked at once in a while, and writers
at the same time do not wait for each other.
"""

from __future__ import annotations

import time
from typing import Final
from weakref import WeakKeyDictionary

from checkpoint.errors import QuotaExceeded
from checkpoint.store import Store

_HOLDS: Final = 10.0
"""For so many seconds a count of the store is believed while there is room."""

_counted: WeakKeyDictionary[Store, tuple[float, int]] = WeakKeyDictionary()


def require_room(store: Store, quota: int) -> None:
    """QuotaExceeded if the store holds its quota or more."""
    held = _believed(store)
    if held is None or held >= quota:  # deleting makes room at once
        held = _count(store)
    if held >= quota:
        raise QuotaExceeded(
            f"the store holds {held / 1e6:.1f} MB of checkpoints and their bases, and {quota / 1e6:.1f} MB is allowed: "
            "raise the quota (CHECKPOINT_QUOTA_BYTES), or let fewer runs wait at a time"
        )


def note(store: Store, size: int) -> None:
    """So much was stored there by this process."""
    when, held = _counted.get(store, (0.0, 0))
    _counted[store] = (when, held + size)


def _believed(store: Store) -> int | None:
    when, held = _counted.get(store, (0.0, 0))
    return held if time.monotonic() - when < _HOLDS and when else None


def _count(store: Store) -> int:
    held = sum(stored.size for place in (store, store.beside("bases")) for stored in place.list())
    _counted[store] = (time.monotonic(), held)
    return held
