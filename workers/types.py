"""What user code sees of the run in progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class CurrentRun(Protocol):
    """The run in progress (`workers.attempt.Attempt` is it; more of that is not public)."""

    number: int
    """Which attempt this is, from 1."""
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    is_replay: bool

    @property
    def id(self) -> str:
        """The run's id."""

    @property
    def idempotency_key(self) -> str:
        """Stable for the step in progress over all its tries: hand it to third parties."""

    def set_metadata(self, **values: object) -> None:
        """Add to the run's metadata, for people and programs that look on."""
