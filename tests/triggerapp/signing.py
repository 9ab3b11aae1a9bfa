"""What providers send: a body, and the headers that their way of signing it makes. Written from their documents, with
nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

TEXT = "0123456789abcdef0123456789abcdef"
STANDARD = "whsec_" + base64.b64encode(bytes(range(32))).decode()
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Sent:
    """A POST."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def with_headers(self, **headers: str) -> Sent:
        """The same with other headers; `_` stands for `-`."""
        return replace(self, headers={**self.headers, **{name.replace("_", "-"): h for name, h in headers.items()}})


def _hex(secret: str, content: bytes) -> str:
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def standard(body: Any, *, id: str = "msg_1", at: float | None = None, secret: str = STANDARD) -> Sent:
    raw, when = _bytes(body), str(int(at or time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{id}.{when}.".encode() + raw
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return Sent(raw, {"webhook-id": id, "webhook-timestamp": when, "webhook-signature": f"v1,{signature}"})


def stripe(body: Any, *, at: float | None = None, secret: str = TEXT) -> Sent:
    raw, when = _bytes(body), str(int(at or time.time()))
    signature = _hex(secret, when.encode() + b"." + raw)
    return Sent(raw, {"stripe-signature": f"t={when},v1={signature},v0={'0' * 64}"})


def github(body: Any, *, event: str = "push", delivery: str = "d-1", secret: str = TEXT) -> Sent:
    raw = _bytes(body)
    kinds = {"x-github-event": event, "x-github-delivery": delivery}
    return Sent(raw, {"x-hub-signature-256": f"sha256={_hex(secret, raw)}", **kinds})


def slack(body: Any, *, at: float | None = None, secret: str = TEXT) -> Sent:
    raw, when = _bytes(body), str(int(at or time.time()))
    signature = _hex(secret, b"v0:" + when.encode() + b":" + raw)
    return Sent(raw, {"x-slack-request-timestamp": when, "x-slack-signature": f"v0={signature}"})


def generic(body: Any, *, secret: str = TEXT) -> Sent:
    raw = _bytes(body)
    return Sent(raw, {"x-signature": _hex(secret, raw)})
