"""What a task is subscribed to: `@durable_task(on=events.on("user/created"))`, `on=webhook("stripe", "invoice.paid")`.

Each event that matches starts the task once. Workers keep the table of subscriptions as their code says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    """Events of a name, with payloads that match a filter."""

    name: str
    filter: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        from triggerapp.engine import subscriptions  # noqa: PLC0415  (needs Django, which importing us must not)

        subscriptions.check(self.name, self.filter)


def webhook(endpoint: str, type: str = "*", *, filter: Mapping[str, Any] | None = None) -> On:
    """Deliveries to an endpoint of this installation, of one type or of all. Raises `BadInput`."""
    from triggerapp.engine import named  # noqa: PLC0415  (needs Django, which importing us must not)

    named.check_name(endpoint)
    return On(name=f"webhook/{endpoint}/{type}", filter=filter)


def listed(on: object) -> tuple[On, ...]:
    """One, several, or none. Raises `TypeError` for what is none of these."""
    found = tuple(on) if isinstance(on, Iterable) and not isinstance(on, str) else () if on is None else (on,)
    for each in found:
        if not isinstance(each, On):
            raise TypeError(f"on={each!r}: pass events.on(name, filter=…) or webhook(endpoint, type)")
    return found
