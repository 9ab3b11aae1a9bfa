"""What a delivery says, once its signature is known to be right: its type, the provider's id, and its payload.

Only what is signed tells one delivery from another: an id in a header that is not would let anybody who saw a delivery
send it again under a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from triggerapp.engine import limits, strictjson, tokens
from triggerapp.engine.signatures import Headers, Signed
from triggerapp.errors import BadInput
from triggerapp.models import Preset

Json = Any
_FORM = "application/x-www-form-urlencoded"
_FIELDS = 1000
_TYPE_CHARACTERS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A delivery that can be an event."""

    type: str
    payload: str
    """JSON text."""
    external_id: str
    key: str
    """What tells it from others."""
    challenge: str = ""
    """It only asks whether anybody is here, and wants this back."""


def read(preset: str, options: Mapping[str, Any], headers: Headers, body: bytes, *, signed: Signed) -> Reading:
    """Raises `BadInput` for a body that cannot be stored or understood."""
    payload = _payload(headers.get("content-type", ""), body)
    kind, id, trusted = _READERS[preset](options, headers, payload)
    kind, id = kind or "message", signed.id or id
    limits.check_text("the type of the delivery", kind, most=_TYPE_CHARACTERS)
    trusted = bool(signed.id) or (trusted and bool(id))
    name = b"id:" + id.encode("utf-8", "backslashreplace") if trusted else b"body:" + body
    return Reading(
        type=kind,
        payload=_stored(payload),
        external_id=limits.storable(id)[: limits.NAME_CHARACTERS],
        key=hashlib.sha256(name).hexdigest(),
        challenge=_challenge(preset, payload),
    )


def _payload(content_type: str, body: bytes) -> Json:
    try:
        if content_type.partition(";")[0].strip().lower() == _FORM:
            return _form(body)
        return _json(body)
    except ValueError as error:
        raise BadInput(f"the body is neither JSON nor a form: {str(error)[:200]}") from error


def _json(text: str | bytes) -> Json:
    # JSON allows a key twice, and a provider that signed it will not send it otherwise: the last one counts.
    return strictjson.loads(text, pairs=dict)


def _form(body: bytes) -> Json:
    """The fields; GitHub and Slack put JSON into one that is called payload."""
    fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS)
    if list(fields) == ["payload"]:
        return _json(fields["payload"][0])
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _stored(payload: Json) -> str:
    """The payload as JSON text that PostgreSQL takes."""
    try:
        return tokens.value_of(json.dumps(payload).encode())
    except ValueError as error:
        raise BadInput(f"the body is JSON that cannot be stored: {str(error)[:200]}") from error


def _challenge(preset: str, payload: Json) -> str:
    if preset == Preset.SLACK and _at(payload, "type") == "url_verification":
        return limits.storable(_at(payload, "challenge"))[:_TYPE_CHARACTERS]
    return ""


def _at(payload: Json, path: str) -> str:
    """The text at a path such as `data.type`; empty if there is none."""
    for name in path.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) else ""


Named = tuple[str, str, bool]
"""Type, id, and whether that is signed."""


def _standard(options: Mapping[str, Any], headers: Headers, payload: Json) -> Named:
    return _at(payload, "type"), "", True


def _stripe(options: Mapping[str, Any], headers: Headers, payload: Json) -> Named:
    return _at(payload, "type"), _at(payload, "id"), True


def _github(options: Mapping[str, Any], headers: Headers, payload: Json) -> Named:
    return headers.get("x-github-event", ""), headers.get("x-github-delivery", ""), False


def _slack(options: Mapping[str, Any], headers: Headers, payload: Json) -> Named:
    outer = _at(payload, "type") or ("slash_command" if _at(payload, "command") else "")
    inner = _at(payload, "event.type") if outer == "event_callback" else ""
    return inner or outer, _at(payload, "event_id"), True


def _generic(options: Mapping[str, Any], headers: Headers, payload: Json) -> Named:
    kind, _ = _from(options.get("type", ""), headers, payload)
    id, trusted = _from(options.get("event_id", ""), headers, payload)
    return kind, id, trusted


def _from(place: str, headers: Headers, payload: Json) -> tuple[str, bool]:
    """What stands at `header:x-event` or `body:data.type`; only the body is signed for certain."""
    where, _, name = place.partition(":")
    if where == "header":
        return headers.get(name.lower(), ""), False
    return (_at(payload, name), True) if where == "body" else ("", False)


_READERS: Mapping[str, Callable[[Mapping[str, Any], Headers, Json], Named]] = {
    Preset.STANDARD: _standard,
    Preset.STRIPE: _stripe,
    Preset.GITHUB: _github,
    Preset.SLACK: _slack,
    Preset.GENERIC: _generic,
}


def check_options(options: Mapping[str, Any]) -> None:
    """Where a generic endpoint finds type and id. Raises `BadInput`."""
    for name in ("type", "event_id"):
        place = options.get(name, "")
        if place and not (isinstance(place, str) and place.startswith(("header:", "body:")) and place[-1] != ":"):
            raise BadInput(f"{name}={place!r:.60} must be header:NAME or body:PATH, such as body:data.type")
