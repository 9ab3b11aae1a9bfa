"""Events: named facts that resolve waits.

Within a run an event is sent once over all entries of the function.
"""

from __future__ import annotations

from typing import Any

from workers import codec, context

Json = Any


def send(name: str, payload: Json = None, *, id: str | None = None) -> str:
    """Send an event; its id. The same `id` twice is one event.

    Every wait on `name` whose filter matches is resolved, also one that is opened later (`lookback`).
    Raises `BadInput` for a name or id that cannot be, `TypeError` or `ValueError` naming the path to what JSON cannot
    carry.
    """
    check_name(name)
    _check_text("id", id)
    attempt = context.current_or_none("events.send")
    if attempt is None:
        return _emit(name, payload, id)
    return str(attempt.step(_emit, (name, payload, id), {}, name=f"send:{name}"))


def check_name(name: object) -> None:
    """Refuse what cannot be an event's name. Raises `BadInput`."""
    _check_text("name", "" if name is None else name)


def _check_text(what: str, value: object) -> None:
    from triggerapp.engine import limits  # noqa: PLC0415  (needs Django, which importing us must not)

    limits.check_text(f"an event's {what}", value)


def _emit(name: str, payload: Json, id: str | None) -> str:
    from triggerapp import conf  # noqa: PLC0415  (needs Django, which importing us must not)
    from triggerapp.engine import events  # noqa: PLC0415

    text = codec.dumps(payload, what=f"the payload of event {name}", limit=conf.get().MAX_VALUE_BYTES)
    attempt = context.current_or_none("events.send")
    if attempt is None:
        return str(events.emit(name, text, external_id=id).id)
    # Without an id of the sender's, the step's: it may be tried again before it is recorded.
    return str(attempt.emit(name, text, external_id=id or attempt.idempotency_key))
