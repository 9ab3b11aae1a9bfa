"""The audit log: who did what to which row. Written in the transaction of what it tells about."""

from __future__ import annotations

import json
from typing import Any

from triggerapp.engine import sql

Json = Any
_RECORD = sql.Hot(
    "INSERT INTO triggerapp_auditentry (environment_id, actor, action, target, before, after) "
    "VALUES (%s, %s, %s, %s, %s::jsonb, %s::jsonb)"
)
_ACTOR_CHARACTERS = 255


def record(
    environment: int | None, actor: str, action: str, target: object, *, before: Json = None, after: Json = None
) -> None:
    """Note one deed; without an actor it was the project's own code."""
    values = [None if value is None else json.dumps(value, default=str) for value in (before, after)]
    sql.run(_RECORD, [environment, named(actor), action, str(target), *values])


def named(actor: str) -> str:
    """What is written for who did it."""
    return (actor or "code")[:_ACTOR_CHARACTERS]
