"""Ids of rows that are made on first use and stay: each is asked for once in the life of a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, TypeVarTuple

from django.db import connection, transaction

Key = TypeVarTuple("Key")
_MOST: Final = 4096


class IdCache(Generic[*Key]):
    """What `find` says of a key, kept once it is certain to stay."""

    def __init__(self, find: Callable[[*Key], int]) -> None:
        self._find = find
        self._known: dict[tuple[Any, ...], int] = {}

    def __call__(self, *key: *Key) -> int:
        """The id."""
        place = (connection.settings_dict["NAME"], *key)
        known = self._known.get(place)
        if known is None:
            known = self._find(*key)
            # What a transaction makes may be rolled back with it.
            transaction.on_commit(partial(self._keep, place, known))
        return known

    def _keep(self, place: tuple[Any, ...], found: int) -> None:
        if len(self._known) >= _MOST:  # names come from outside: they must not fill the memory
            self._known.clear()
        self._known[place] = found

    def forget(self) -> None:
        """Ask again."""
        self._known.clear()
