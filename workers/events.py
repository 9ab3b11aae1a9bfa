"""Events: named facts that resolve waits and start the tasks that are subscribed to them.

Within a run an event is sent once over all entries of the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workers import codec, context
from workers.subscribing import On

Json = Any


def on(name: str, *, filter: Mapping[str, Any] | None = None) -> On:
    """For `@durable_task(on=…)`: each event of this name that matches starts the task once. Raises `BadInput`."""
    return On(name=name, filter=filter)


def send(
    name: str,
    payload: Json = None,
    *,
    id: str | None = None,
    deliver_at: datetime | None = None,
    deliver_after: timedelta | None = None,
) -> str:
    """Send an event; its id. The same `id` twice is one event.

    Every wait on `name` whose filter matches is resolved, also one that is opened later (`lookback`), and every task
    that is subscribed to it is started. With `deliver_at` or `deliver_after` nothing sees it until then.
    Raises `BadInput` for a name, id or time that cannot be, and for what JSON cannot carry, with the path to it.
    """
    check_name(name)
    _check_text("id", id)
    later = _later(deliver_at, deliver_after)
    attempt = context.current_or_none("events.send")
    if attempt is None:
        return _emit(name, payload, id, **later)
    return str(attempt.step(_emit, (name, payload, id), later, name=f"send:{name}"))


def cancel(event: str) -> bool:
    """Call off an event that is to be delivered later; False if that was done before.

    Raises `IllegalMove` if it was delivered, `NotFound` if there is none.
    """
    attempt = context.current_or_none("events.cancel")
    if attempt is None:
        return _cancel(event)
    return bool(attempt.step(_cancel, (event,), {}, name=f"cancel:{event}"))


def _cancel(event: str) -> bool:
    from triggerapp.engine import environments, events  # noqa: PLC0415  (needs Django, which importing us must not)
    from triggerapp.errors import NotFound  # noqa: PLC0415

    try:
        found = UUID(str(event).removeprefix("event_"))
    except ValueError as error:
        raise NotFound(f"there is no event {str(event)[:80]!r}") from error
    return events.cancel(found, environment=environments.current())


def _later(at: datetime | None, after: timedelta | None) -> dict[str, Any]:
    """When to deliver it; nothing for at once, so that the digest of the step stays what it was."""
    from triggerapp.engine import limits  # noqa: PLC0415  (needs Django, which importing us must not)
    from triggerapp.errors import BadInput  # noqa: PLC0415

    if at is not None and after is not None:
        raise BadInput("pass deliver_at or deliver_after, not both")
    limits.check_deadline("deliver_at", at)
    limits.check_deadline("deliver_after", after)
    return {} if at is None and after is None else {"deliver": after if at is None else at}


def check_name(name: object) -> None:
    """Refuse what cannot be an event's name. Raises `BadInput`."""
    _check_text("name", "" if name is None else name)


def _check_text(what: str, value: object) -> None:
    from triggerapp.engine import limits  # noqa: PLC0415  (needs Django, which importing us must not)

    limits.check_text(f"an event's {what}", value)


def _emit(name: str, payload: Json, id: str | None, deliver: datetime | timedelta | None = None) -> str:
    from triggerapp.engine import events  # noqa: PLC0415  (needs Django, which importing us must not)

    text = codec.dumps(payload, what=f"the payload of event {name}")
    attempt = context.current_or_none("events.send")
    if attempt is None:
        return str(events.emit(name, text, external_id=id, deliver=deliver).id)
    # Without an id of the sender's, the step's: it may be tried again before it is recorded.
    return str(attempt.emit(name, text, external_id=id or attempt.idempotency_key, deliver=deliver))
