"""Signatures of webhooks: a table of how providers sign, and the one way in which all of them are checked.

Checked are the bytes as they came, before anything reads them. Whatever stands in the headers, the outcome is a value:
what was signed, or why it is refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from triggerapp.errors import BadInput
from triggerapp.models import Preset

Headers = Mapping[str, str]
"""By names in small letters."""

_MOST_SIGNATURES = 16
"""In one header: providers send one for each secret that stands."""
_HEADER_CHARACTERS = 4096
_STANDARD_PREFIX = "whsec_"
_STANDARD_BYTES = 24
_TEXT_CHARACTERS = 16
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ID = re.compile(r"[!-~]{1,255}")
_PART = re.compile(r"\{(id|timestamp|body)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a provider signs: HMAC over `signed`, in the header `signature`."""

    signature: str
    signed: str = "{body}"
    mark: str = ""
    """What a signature begins with: `v1=`."""
    separator: str = ""
    """Between several things in the header."""
    timestamp: str = ""
    """The header with the time, in seconds."""
    timestamp_mark: str = ""
    """Or what it begins with in the header of the signature: `t=`."""
    id: str = ""
    """The header with the delivery's id, if that is signed."""
    algorithm: str = "sha256"
    encoding: str = "hex"
    standard_secret: bool = False
    """The secret is `whsec_` and base64, not text."""


SCHEMES: Mapping[str, Scheme] = {
    Preset.STANDARD: Scheme(
        signature="webhook-signature",
        signed="{id}.{timestamp}.{body}",
        mark="v1,",
        separator=" ",
        timestamp="webhook-timestamp",
        id="webhook-id",
        encoding="base64",
        standard_secret=True,
    ),
    Preset.STRIPE: Scheme(
        signature="stripe-signature", signed="{timestamp}.{body}", mark="v1=", separator=",", timestamp_mark="t="
    ),
    Preset.GITHUB: Scheme(signature="x-hub-signature-256", mark="sha256="),
    Preset.SLACK: Scheme(
        signature="x-slack-signature",
        signed="v0:{timestamp}:{body}",
        mark="v0=",
        timestamp="x-slack-request-timestamp",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The signature is right, and its time, if it has one, is near."""

    id: str = ""
    """The delivery's id, if it is signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a delivery is not what it says it is."""

    code: str
    reason: str


def check(
    scheme: Scheme, headers: Headers, body: bytes, *, secrets: Sequence[str], tolerance: timedelta, now: datetime
) -> Signed | Refused:
    """Whether one of the secrets signed this body, not longer ago than `tolerance`."""
    parts = _read(scheme, _renamed(headers))
    if isinstance(parts, Refused):
        return parts
    content = _content(scheme, parts, body)
    wanted = [_signature(scheme, key_of(secret, standard=scheme.standard_secret), content) for secret in secrets]
    # Every one is compared: how long it takes tells nothing of which is right.
    right = [hmac.compare_digest(each, given) for each in wanted for given in parts.signatures]
    if not any(right):
        return Refused(code="wrong_signature", reason=f"no signature in {scheme.signature} is of a secret that stands")
    age = now - parts.signed_at if parts.signed_at else timedelta()
    if abs(age) > tolerance:
        when = f"{_rough(age)} ago" if age > timedelta() else f"{_rough(-age)} ahead of our clock"
        return Refused(code="stale", reason=f"it was signed {when}; the tolerance is {_rough(tolerance)}")
    return Signed(id=parts.id)


def _renamed(headers: Headers) -> Headers:
    """Svix, who began Standard Webhooks, still calls its headers by its own name."""
    if "svix-signature" not in headers or "webhook-signature" in headers:
        return headers
    return {name.replace("svix-", "webhook-", 1): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    signatures: Sequence[bytes]
    timestamp: str = ""
    signed_at: datetime | None = None
    id: str = ""


def _read(scheme: Scheme, headers: Headers) -> _Parts | Refused:
    header = headers.get(scheme.signature, "")
    if not header:
        return Refused(code="no_signature", reason=f"the header {scheme.signature} is missing")
    if len(header) > _HEADER_CHARACTERS:
        return Refused(code="bad_signature", reason=f"the header {scheme.signature} is too long")
    items = [item.strip() for item in header.split(scheme.separator or None)]
    found = [item.removeprefix(scheme.mark) for item in items if item.startswith(scheme.mark)]
    if not any(found) or len(found) > _MOST_SIGNATURES:
        how = f"1 to {_MOST_SIGNATURES} signatures" + (f" that begin with {scheme.mark}" if scheme.mark else "")
        return Refused(code="bad_signature", reason=f"the header {scheme.signature} must have {how}")
    given = [_bytes(each.lower() if scheme.encoding == "hex" else each) for each in found]
    return _with_time(scheme, headers, items, given)


def _with_time(scheme: Scheme, headers: Headers, items: Sequence[str], signatures: Sequence[bytes]) -> _Parts | Refused:
    text, id = "", ""
    if scheme.timestamp or scheme.timestamp_mark:
        text = _timestamp(scheme, headers, items)
        if not _TIMESTAMP.fullmatch(text):
            where = scheme.timestamp or f"{scheme.timestamp_mark} in {scheme.signature}"
            return Refused(code="bad_timestamp", reason=f"{where} must be there once, in seconds since 1970")
    if scheme.id:
        id = headers.get(scheme.id, "")
        if not _ID.fullmatch(id):
            return Refused(code="bad_id", reason=f"the header {scheme.id} must be there, with up to 255 characters")
    signed_at = datetime.fromtimestamp(min(int(text), _LAST_SECOND), UTC) if text else None
    return _Parts(signatures=signatures, timestamp=text, signed_at=signed_at, id=id)


_LAST_SECOND = 253_000_000_000
"""Of a year that Python still knows."""


def _timestamp(scheme: Scheme, headers: Headers, items: Sequence[str]) -> str:
    if scheme.timestamp:
        return headers.get(scheme.timestamp, "").strip()
    found = [item.removeprefix(scheme.timestamp_mark) for item in items if item.startswith(scheme.timestamp_mark)]
    return found[0] if len(found) == 1 else ""


def _content(scheme: Scheme, parts: _Parts, body: bytes) -> bytes:
    values = {"id": parts.id.encode(), "timestamp": parts.timestamp.encode(), "body": body}
    pieces = _PART.split(scheme.signed)  # text, name, text, name, …, text
    return b"".join(values[each] if n % 2 else each.encode() for n, each in enumerate(pieces))


def _signature(scheme: Scheme, key: bytes, content: bytes) -> bytes:
    found = hmac.digest(key, content, scheme.algorithm)
    return base64.b64encode(found) if scheme.encoding == "base64" else found.hex().encode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _rough(time: timedelta) -> str:
    seconds = round(time.total_seconds())
    return f"{seconds} s" if seconds < 600 else f"{seconds // 60} min"


def key_of(secret: str, *, standard: bool) -> bytes:
    """The bytes that a secret signs with. Raises `BadInput` for one that cannot be, or that is too short."""
    if not standard:
        if len(secret) < _TEXT_CHARACTERS or not secret.isprintable():
            raise BadInput(f"a secret has at least {_TEXT_CHARACTERS} characters, all printable")
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"a secret of Standard Webhooks is {_STANDARD_PREFIX} and base64") from error
    if len(key) < _STANDARD_BYTES:
        raise BadInput(f"a secret of Standard Webhooks has at least {_STANDARD_BYTES} bytes")
    return key


def sign(secret: str, body: bytes, *, id: str, at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks for a body of ours."""
    return headers_of(SCHEMES[Preset.STANDARD], secret, body, id=id, at=at)


def headers_of(scheme: Scheme, secret: str, body: bytes, *, id: str, at: datetime) -> dict[str, str]:
    """The headers by which a provider of this scheme signs a body."""
    parts = _Parts(signatures=(), timestamp=str(int(at.timestamp())), id=id)
    key = key_of(secret, standard=scheme.standard_secret)
    signature = scheme.mark + _signature(scheme, key, _content(scheme, parts, body)).decode()
    if scheme.timestamp_mark:
        signature = f"{scheme.timestamp_mark}{parts.timestamp}{scheme.separator}{signature}"
    found = {scheme.id: id, scheme.timestamp: parts.timestamp, scheme.signature: signature}
    return {name: value for name, value in found.items() if name}


_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_GENERIC = {"signature", "signed", "mark", "separator", "timestamp", "id", "algorithm", "encoding", "standard_secret"}


def generic(options: Mapping[str, object]) -> Scheme:
    """The scheme that somebody described. Raises `BadInput`."""
    given = {name: value for name, value in options.items() if name in _GENERIC}
    for name, value in given.items():
        if not isinstance(value, bool if name == "standard_secret" else str):
            wanted = "a bool" if name == "standard_secret" else "text"
            raise BadInput(f"the option {name}={value!r:.60} must be {wanted}")
    for name in {"signature", "timestamp", "id"} & given.keys():
        given[name] = str(given[name]).lower()
    scheme = Scheme(**{"signature": "x-signature", **given})  # type: ignore[arg-type]  # checked above
    _check_generic(scheme)
    return scheme


def _check_generic(scheme: Scheme) -> None:
    for name in filter(None, (scheme.signature, scheme.timestamp, scheme.id)):
        if not _HEADER_NAME.fullmatch(name):
            raise BadInput(f"{name[:60]!r} is no name of a header")
    if scheme.algorithm not in ("sha256", "sha384", "sha512"):
        raise BadInput(f"algorithm={scheme.algorithm[:20]!r} must be sha256, sha384 or sha512")
    if scheme.encoding not in ("hex", "base64"):
        raise BadInput(f"encoding={scheme.encoding[:20]!r} must be hex or base64")
    parts = _PART.findall(scheme.signed)
    if parts.count("body") != 1 or len(set(parts)) != len(parts):
        raise BadInput("signed must have {body}, and may have {timestamp} and {id}, each once")
    for name in ("timestamp", "id"):
        if bool(getattr(scheme, name)) != (name in parts):
            raise BadInput(f"the header of the {name} and {{{name}}} in what is signed go together")
