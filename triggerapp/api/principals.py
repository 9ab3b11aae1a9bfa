"""Who called, and the scopes that say what they may do.

Scopes are those of Trigger.dev: a verb (`read`), a verb and a kind (`read:runs`), or those and one row
(`read:runs:run_…`). A caller with rows only is shown those, and of every other row the same 404 as if there were none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser

Subject = tuple[str, str]
"""A kind and an id that a scope may name: ("runs", "run_…"), ("tags", "user_1")."""

_IMPLIED = {"write": ("write", "trigger", "batchTrigger")}
_PARTS = {"webhooks": ("deliveries",)}
"""Kinds within a kind: who may change endpoints and destinations may also have something delivered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller."""

    environment: int
    slug: str
    actor: str
    scopes: tuple[str, ...]
    key: int
    public: bool = False
    """By a public token: made with that key, and no better than it."""
    user: AbstractBaseUser | None = None
    """Whose personal token it is; None of a key."""
    redacted: bool = False
    """They may not see what the setting `REDACT` names."""
    is_authenticated: bool = True

    @property
    def personal(self) -> bool:
        """By a personal token: a user's."""
        return self.user is not None

    def may_all(self, verb: str, kind: str) -> bool:
        """Whether every row of this kind is open to them."""
        return any(_covers(scope, verb) and _is_of(scope, kind) and not _id_of(scope) for scope in self.scopes)

    def may_some(self, verb: str, kinds: Iterable[str]) -> bool:
        """Whether single rows are."""
        return any(_covers(scope, verb) and _id_of(scope) and _kind_of(scope) in kinds for scope in self.scopes)

    def may(self, verb: str, kind: str, subjects: Iterable[Subject]) -> bool:
        """Whether the row that these ids are of is."""
        if self.may_all(verb, kind):
            return True
        found = set(subjects)
        return any(_covers(scope, verb) and (_kind_of(scope), _id_of(scope)) in found for scope in self.scopes)


def _covers(scope: str, verb: str) -> bool:
    given = scope.partition(":")[0]
    return given == "admin" or verb in _IMPLIED.get(given, (given,))


def _kind_of(scope: str) -> str:
    kind = [*scope.split(":", 2), "", ""][1]
    return "" if kind == "all" else kind


def _is_of(scope: str, kind: str) -> bool:
    given = _kind_of(scope)
    return given in ("", kind) or kind in _PARTS.get(given, ())


def _id_of(scope: str) -> str:
    return [*scope.split(":", 2), "", ""][2]
