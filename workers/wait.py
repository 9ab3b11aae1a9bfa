"""Waits that hold no worker: `wait.sleep`, `until`, `for_event`, `for_request`, tokens.

Each works only within a run (`NotInRun` elsewhere), and not inside `atomic()` (`WaitInTransaction`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from triggerapp.errors import BadInput, BadType
from workers import codec, context, events
from workers.errors import WaitCanceled, WaitTimeout

if TYPE_CHECKING:
    from triggerapp.engine.waits import Resolution

Json = Any
HOUR = timedelta(hours=1)
LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """The event that a wait was resolved by."""

    id: str
    name: str
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Something that whoever holds it can complete once, with a value."""

    id: str
    url: str
    """A POST to it completes the token; the JSON body is the value."""
    timeout: timedelta | None = None

    def wait(self, *, timeout: timedelta | None = None) -> Json:
        """Wait until it is completed and return the value. Raises `WaitTimeout`."""
        return for_token(self, timeout=timeout)


def sleep(seconds: float | timedelta | None = None, *, key: str | None = None, **units: float) -> None:
    """Wait for a time: `sleep(30)`, `sleep(timedelta(days=2))`, `sleep(hours=6, minutes=30)`."""
    pause = _pause(seconds, units)
    context.current("wait.sleep").sleep(pause, key=key)


def _pause(seconds: float | timedelta | None, units: Mapping[str, float]) -> timedelta:
    if (seconds is None) == (not units):
        raise BadType("wait.sleep takes seconds or a timedelta, or units such as days=1: one of them")
    try:
        pause = seconds if isinstance(seconds, timedelta) else timedelta(**(units or {"seconds": seconds or 0}))
    except (TypeError, ValueError, OverflowError) as error:
        wrong = BadType if isinstance(error, TypeError) else BadInput
        raise wrong(f"wait.sleep: {units or seconds!r} is not a time to wait for ({error})") from error
    return _positive(pause, "wait.sleep")


def _positive(pause: timedelta, what: str) -> timedelta:
    if not isinstance(pause, timedelta):
        raise BadType(f"{what}: {pause!r} is not a timedelta")
    if pause < timedelta():
        raise BadInput(f"{what}: {pause!r} is negative")
    if pause > LONGEST:
        raise BadInput(f"{what}: {pause!r} is longer than the longest wait, {LONGEST.days} days")
    return pause


def until(moment: datetime, *, key: str | None = None, reject_past: bool = False) -> None:
    """Wait until `moment`, an aware datetime; one in the past resolves at once, or raises with `reject_past`."""
    from triggerapp.engine.waits import Opening  # noqa: PLC0415  (needs Django, which importing us must not)
    from triggerapp.models import WaitKind  # noqa: PLC0415

    if not isinstance(moment, datetime):
        raise BadType(f"wait.until: {moment!r} is not a datetime")
    if moment.tzinfo is None:
        raise BadInput(f"wait.until: {moment!r} has no time zone; pass an aware datetime")
    attempt = context.current("wait.until")
    if moment - datetime.now(UTC) > LONGEST:
        raise BadInput(f"wait.until: {moment.isoformat()} is later than the longest wait, {LONGEST.days} days")
    if reject_past and moment <= datetime.now(moment.tzinfo):
        raise BadInput(f"wait.until: {moment.isoformat()} is in the past")
    attempt.wait("until", lambda key: Opening(key=key, kind=WaitKind.TIMER, deadline=moment), key=key)


def for_event(
    name: str,
    *,
    filter: Mapping[str, Json] | None = None,
    timeout: timedelta = HOUR,
    lookback: timedelta | None = None,
    key: str | None = None,
) -> ReceivedEvent:
    """Wait for an event of this name whose payload matches `filter`. Raises `WaitTimeout`.

    `filter` is an AND over its keys, an OR over arrays, with nested keys and operators (docs/guide.md).
    Events sent up to `lookback` before the wait count too (default: the `EVENT_LOOKBACK` setting; 0: none).
    """
    from triggerapp.engine import filters  # noqa: PLC0415  (needs Django)
    from triggerapp.engine.waits import Opening  # noqa: PLC0415
    from triggerapp.models import WaitKind  # noqa: PLC0415

    attempt = context.current("wait.for_event")
    events.check_name(name)
    codec.dumps(filter or {}, what="the filter", limit=64 * 1024)
    filters.check(filter or {})
    _positive(timeout, "wait.for_event timeout")
    _positive(lookback or timedelta(), "wait.for_event lookback")
    resolution = attempt.wait(
        f"for_event:{name}",
        lambda key: Opening(
            key=key, kind=WaitKind.EVENT, name=name, filter=filter or {}, deadline=timeout, lookback=lookback
        ),
        key=key,
    )
    value = json_value(resolution, f"the event {name}")
    return ReceivedEvent(id=value["id"], name=value["name"], payload=value["payload"])


def create_token(
    *, timeout: timedelta | None = None, tags: Sequence[str] = (), idempotency_key: str | None = None
) -> Token:
    """A token to give away; `.wait()` for it later in this run.

    Works outside of runs too: such a token is for the first run that waits for it.
    """
    from triggerapp.engine import limits, tokens  # noqa: PLC0415  (needs Django)

    if timeout is not None:
        _positive(timeout, "wait.create_token timeout")
    limits.check_tags(tags)
    limits.check_text("idempotency_key", idempotency_key, most=limits.KEY_CHARACTERS)
    attempt = context.current_or_none("wait.create_token")
    if attempt is None:
        token = tokens.create(timeout, tags=tags, idempotency_key=idempotency_key)
    else:
        token = attempt.create_token(timeout, tags=tags, key=idempotency_key)
    return Token(id=str(token), url=tokens.url(token), timeout=timeout)


def for_token(token: Token | str, *, timeout: timedelta | None = None) -> Json:
    """Wait until the token is completed and return its value. Raises `WaitTimeout`."""

    attempt = context.current("wait.for_token")
    if timeout is not None:
        _positive(timeout, "wait.for_token timeout")
    identifier = token.id if isinstance(token, Token) else token
    resolution = attempt.wait_for_token(_uuid(identifier), deadline=timeout)
    return json_value(resolution, f"token {identifier}")


def _uuid(text: str) -> UUID:

    try:
        return UUID(str(text).removeprefix("waitpoint_"))
    except ValueError as error:
        raise BadInput(f"{text!r} is not a token's id") from error


def for_request(announce: Callable[[str], object], *, timeout: timedelta = HOUR, key: str | None = None) -> Json:
    """Mint a URL, hand it to `announce` (a step), wait for the first POST to it and return its JSON body."""
    attempt = context.current("wait.for_request")
    _positive(timeout, "wait.for_request timeout")
    token = create_token(timeout=timeout, idempotency_key=key)
    attempt.step(announce, (token.url,), {}, key=key and f"{key}:announce")
    return token.wait()


def json_value(resolution: Resolution, what: str) -> Json:
    """The value of a wait. Raises `WaitTimeout` or `WaitCanceled` if there is none."""
    if resolution.status == "timed_out":
        raise WaitTimeout(f"{what} did not come in time")
    if resolution.status == "canceled":
        raise WaitCanceled(f"the wait for {what} was canceled")
    return None if resolution.value is None else codec.loads(resolution.value)
