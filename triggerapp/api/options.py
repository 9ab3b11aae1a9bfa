"""What a trigger may say beside its payload, from Trigger.dev's names to ours.

An option that is not built is refused, not swallowed. Passed over are those that choose a machine, a region or a
deployment, which the SDK of Trigger.dev sends by itself, and which have no meaning here; and `context` beside the
payload, which its old versions send.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from triggerapp import ids
from triggerapp.api import http
from triggerapp.engine import calls, limits, packets, superjson
from triggerapp.engine.calls import Arguments, Call
from triggerapp.engine.durations import deadline, duration
from triggerapp.errors import BadInput

Json = Any
Body = Mapping[str, Json]
Found = dict[str, Any]

PASSED_OVER = frozenset(
    "machine region externalDeploymentId payloadSize payloadType idempotencyKeyOptions metadataType parentAttempt "
    "parentBatch bulkActionId".split()
)
_FIELDS = frozenset(("payload", "options", "context"))
_OF_ITEM = frozenset(("task", "index"))
"""What an item of a batch has beside them."""
_PRIORITIES = 32_767


def call_of(task: str, body: Body, environment: int, *, of_batch: bool = False) -> Call:
    """The call that the body of a trigger asks for, in this environment."""
    _refuse_fields(body, _FIELDS | _OF_ITEM if of_batch else _FIELDS)
    options = _object("options", body.get("options"))
    return Call(
        task=task,
        payload=_payload(body, options.get("payloadType"), environment),
        options=_options(task, options),
        changes=_changes(options),
    )


def _refuse_fields(body: Body, known: frozenset[str]) -> None:
    """Of an argument beside the payload its caller would only hear that it is missing."""
    for name in body:
        if name not in known:
            meant = f'{{"payload": {{{json.dumps(name[:80])}: ...}}}}'
            raise BadInput(f"there is no field {name[:80]!r} here; did you mean {meant}?")


def of_replay(task: str, body: Body, environment: int) -> tuple[Arguments | None, Found]:
    """Other arguments for the same task, if there are any, and the fields of the run that are to differ."""
    _refuse_unknown(body, _OPTIONS.keys() | {"payload", "payloadType", "version", "priority", "queue"} | PASSED_OVER)
    options = {name: value for name, value in body.items() if name not in ("payload", "version")}
    if isinstance(options.get("queue"), str):
        options["queue"] = {"name": options["queue"]}
    found = {**_options(task, options), **_changes(options), **_version(body)}
    arguments = None
    if "payload" in body:
        arguments = calls.arguments(task, _payload(body, options.get("payloadType"), environment))
    return arguments, found


def _payload(body: Body, kind: Json, environment: int) -> Json:
    if "payload" not in body:
        return calls.MISSING
    payload = body["payload"]
    if kind == "application/store":
        return _stored(payload, environment)
    if kind in (None, "application/json", "text/plain"):
        return payload
    if kind == "application/super+json" and isinstance(payload, str):
        return superjson.loads(payload)
    raise BadInput(
        f"payloadType={kind!r:.60} must be application/json, application/super+json, text/plain or application/store"
    )


def _stored(name: Json, environment: int) -> Json:
    """The payload that was uploaded ahead under this name."""
    kind, text = packets.text(ids.read("packet", str(name)), environment)
    match kind:
        case "application/super+json":
            return superjson.loads(text)
        case "application/json":
            return http.parse(text.encode())
    return text


def _options(task: str, given: Body) -> Found:
    _refuse_unknown(given, _OPTIONS.keys() | PASSED_OVER | {"priority", "queue"})
    read = {n: (_OPTIONS[n], value) for n, value in given.items() if n in _OPTIONS and value is not None}
    found = {name: convert(value) for (name, convert), value in read.values()}
    queue = _object("queue", given.get("queue")).get("name")
    if queue is not None and queue != f"task/{task}":
        limits.check_text("queue", queue)
        found["queue"] = queue
    return found


def _changes(given: Body) -> Found:
    priority = given.get("priority")
    if priority is None:
        return {}
    if isinstance(priority, bool) or not isinstance(priority, int | float) or abs(priority) > _PRIORITIES:
        raise BadInput(f"priority={priority!r:.60} must be a number of seconds up to {_PRIORITIES:,}")
    return {"priority": round(priority)}


def _version(body: Body) -> Found:
    """Of a replay only: it notes which registered version it is for."""
    version = body.get("version")
    if version is None:
        return {}
    limits.check_text("version", version, most=64)
    return {"version": version}


def _refuse_unknown(given: Body, known: Any) -> None:
    for name, value in given.items():
        if name not in known and not http.asks_nothing(value):
            raise BadInput(f"there is no option {name[:80]!r} here; it would have no effect")


def tags_of(value: Json) -> list[str]:
    """One tag, or a list of them."""
    tags = [value] if isinstance(value, str) else value
    if not isinstance(tags, list):
        raise BadInput("tags must be a text or a list of texts")
    limits.check_tags(tags)
    return tags


def _object(name: str, value: Json) -> Body:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInput(f"{name} must be an object")
    return value


def _key(value: Json) -> Json:
    text = str(value) if isinstance(value, int) else value
    limits.check_text("concurrencyKey", text)
    return text


def _idempotency_key(value: Json) -> Json:
    limits.check_text("idempotencyKey", value, most=limits.KEY_CHARACTERS)
    return value


def _attempts(value: Json) -> Json:
    limits.check_attempts(value, name="maxAttempts")
    return value


def _max_duration(value: Json) -> Any:
    return duration("maxDuration", value) or None


def _same(value: Json) -> Json:
    return value


_OPTIONS: Mapping[str, tuple[str, Callable[[Json], Any]]] = {
    "delay": ("delay", lambda value: deadline("delay", value)),
    "ttl": ("ttl", lambda value: duration("ttl", value) or None),
    "idempotencyKey": ("idempotency_key", _idempotency_key),
    "idempotencyKeyTTL": ("idempotency_ttl", lambda value: duration("idempotencyKeyTTL", value)),
    "concurrencyKey": ("concurrency_key", _key),
    "maxAttempts": ("max_attempts", _attempts),
    "maxDuration": ("max_duration", _max_duration),
    "tags": ("tags", tags_of),
    "metadata": ("metadata", _same),
}
