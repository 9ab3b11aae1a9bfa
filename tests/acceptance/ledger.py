"""What tasks did, written down where the tests can read it: a list per tag in the tests' own Valkey."""

from __future__ import annotations

import json
import os
import uuid
from functools import lru_cache
from typing import Any

import redis


@lru_cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


def client() -> redis.Redis:
    """The ledger's own database."""
    return _client(os.environ["ACCEPTANCE_LEDGER"])


def fresh() -> str:
    """A tag that nobody has used."""
    return uuid.uuid4().hex


def note(tag: str, what: Any) -> Any:
    """Write `what` down; the number of notes under this tag so far, this one included."""
    return client().rpush(f"notes:{tag}", json.dumps(what, default=str))


def notes(tag: str) -> list[Any]:
    """All that was written down, in order."""
    return [json.loads(text) for text in client().lrange(f"notes:{tag}", 0, -1)]


def once(tag: str) -> bool:
    """True for the first who asks."""
    return bool(client().set(f"once:{tag}", 1, nx=True))


def open_gate(tag: str) -> None:
    """Let those pass who wait at this gate."""
    client().set(f"gate:{tag}", 1)


def is_open(tag: str) -> bool:
    return bool(client().exists(f"gate:{tag}"))
