"""What webhooks start at a live site."""

from __future__ import annotations

from typing import Any

from workers import durable_task, webhook


@durable_task(name="hooks.listen", on=webhook("hub", "push"))
def listen(payload: dict[str, Any]) -> int:
    return int(payload["n"])
