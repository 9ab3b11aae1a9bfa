"""What endpoints and destinations have in common: a name within their environment, and a switch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db import transaction

from triggerapp.clock import now
from triggerapp.engine import audit, environments
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import Destination, Endpoint

R = TypeVar("R", Endpoint, Destination)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_name(name: str) -> None:
    """A name that can stand in a URL and in the names of events."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"the name {name[:70]!r} must have 1 to 64 small letters, digits, - and _")


@dataclass(frozen=True, slots=True)
class Named(Generic[R]):
    """The rows of one of the two kinds."""

    model: type[R]
    word: str
    """What people call such a row."""
    audited: str
    """How its deeds begin in the audit log."""

    def make(self, environment: str, name: str, *, actor: str, **fields: object) -> R:
        """A new one, in the transaction of whoever gives it a secret. Raises `BadInput` if the name is taken."""
        row, is_new = self.model._default_manager.get_or_create(
            environment=environments.named(environment), name=name, defaults={**fields, "created_by": actor or "code"}
        )
        if not is_new:
            what = f"the {self.word} {name!r} is in {environment} already"
            raise BadInput(f"{what}: rotate its secret or remove it, or take another name")
        return row

    def find(self, environment: str, name: str, *, lock: bool = False) -> R:
        """The one of this name. Raises `NotFound`."""
        if not _NAME.fullmatch(name) or "\0" in environment:
            raise NotFound(f"there is no {self.word} {name[:70]!r}")
        manager = self.model._default_manager
        rows = manager.select_for_update(of=("self",)) if lock else manager.all()
        found = rows.select_related("environment").filter(environment__slug=environment, name=name).first()
        if found is None:
            raise NotFound(f"there is no {self.word} {name[:70]!r} in {environment[:40]}")
        return found

    def set_disabled(self, environment: str, name: str, *, disabled: bool, actor: str = "") -> R:
        """Turn it off from now on, or on again."""
        with transaction.atomic():
            row = self.find(environment, name, lock=True)
            if bool(row.disabled_at) != disabled:
                row.disabled_at = now() if disabled else None
                row.save(update_fields=["disabled_at"])
                deed = "disable" if disabled else "enable"
                audit.record(row.environment_id, actor, f"{self.audited}.{deed}", name)
        return row
