"""Deliveries: what is posted to an endpoint. Verified first, then an event, and only then answered.

An accepted delivery and its event are one commit. All that was not accepted is noted only so often, and only in its
beginning: nobody fills the table without a secret.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from triggerapp import conf
from triggerapp.clock import now
from triggerapp.engine import environments, events, limits, readings, signatures, sql, webhooks
from triggerapp.engine.readings import Reading
from triggerapp.engine.signatures import Headers
from triggerapp.errors import BadInput, UnreadableSecret
from triggerapp.failpoints import point
from triggerapp.models import Endpoint, Verdict
from triggerapp.models.runs import new_id

NOTED_PER_HOUR = 100
"""Of an endpoint's deliveries that were not accepted; of more nothing is kept."""
NOTED_BYTES = 4096
"""Of the body of such a one."""
_HEADERS = 40
_HEADER_CHARACTERS = 512
_REASON_CHARACTERS = 512
_SECRET_HEADERS = re.compile(r"authorization|cookie|token|secret|key|passw", re.IGNORECASE)
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST as it came."""

    headers: Headers
    body: bytes
    remote: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """It is an event now, or was one before."""

    event: UUID | None
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenged:
    """It asked for an echo."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Nothing came of it."""

    code: str
    reason: str


Outcome = Accepted | Challenged | Rejected


def receive(environment: str, name: str, request: Request) -> Outcome:
    """Verify a delivery and make an event of it. Raises `NotFound` for an endpoint that is not there."""
    endpoint = webhooks.find(environment, name)
    found = _verified(endpoint, request)
    if isinstance(found, signatures.Refused):
        return _reject(endpoint, request, found.code, found.reason)
    point("hook.verified")
    try:
        reading = readings.read(endpoint.preset, endpoint.options, request.headers, request.body, signed=found)
        if reading.challenge:
            _note(endpoint, request, Verdict.CHALLENGE, reading=reading)
            return Challenged(text=reading.challenge)
        return _accept(endpoint, request, reading)
    except BadInput as error:
        return _reject(endpoint, request, "bad_body", str(error))


def _verified(endpoint: Endpoint, request: Request) -> signatures.Signed | signatures.Refused:
    if endpoint.disabled_at is not None:
        return signatures.Refused(code="disabled", reason="this endpoint was disabled")
    try:
        standing = webhooks.standing_secrets(endpoint)
    except UnreadableSecret as error:
        return signatures.Refused(code="unreadable_secret", reason=str(error))
    if not standing:
        return signatures.Refused(code="no_secret", reason="this endpoint has no secret that stands; rotate it")
    return signatures.check(
        webhooks.scheme_of(endpoint),
        request.headers,
        request.body,
        secrets=standing,
        tolerance=endpoint.tolerance,
        now=now(),
    )


_ACCEPT = sql.Hot(
    "INSERT INTO triggerapp_delivery (id, environment_id, endpoint_id, verdict, type, external_id, key, headers, body, "
    "size, remote) VALUES (%s, %s, %s, 'accepted', %s, %s, %s, %s::jsonb, %s, %s, %s) "
    "ON CONFLICT DO NOTHING RETURNING id"
)
_LINK = sql.Hot("UPDATE triggerapp_delivery SET event = %s WHERE id = %s")


def _accept(endpoint: Endpoint, request: Request, reading: Reading) -> Accepted:
    """A delivery whose twin is being accepted at this moment waits here for its commit."""
    values = [reading.type, reading.external_id, reading.key, _headers(endpoint, request.headers), request.body]
    with transaction.atomic():
        row = sql.row(
            _ACCEPT,
            [new_id(), endpoint.environment_id, endpoint.pk, *values, len(request.body), request.remote],
        )
        if row is not None:
            name = f"webhook/{endpoint.name}/{reading.type}"
            event = events.emit(name, reading.payload, environment=endpoint.environment_id).id
            sql.run(_LINK, [event, row["id"]])
            point("hook.before_commit")
    if row is None:
        return _repeated(endpoint, request, reading)
    point("hook.after_commit")
    return Accepted(event=event)


def _repeated(endpoint: Endpoint, request: Request, reading: Reading) -> Accepted:
    first = sql.row(
        "SELECT event FROM triggerapp_delivery WHERE endpoint_id = %s AND key = %s AND verdict = 'accepted'",
        [endpoint.pk, reading.key],
    )
    event = first["event"] if first else None
    _note(endpoint, request, Verdict.DUPLICATE, reading=reading, event=event)
    return Accepted(event=event, cached=True)


def _reject(endpoint: Endpoint, request: Request, code: str, reason: str) -> Rejected:
    reason = limits.storable(reason)[:_REASON_CHARACTERS]
    _note(endpoint, request, Verdict.REJECTED, code=code, reason=reason)
    return Rejected(code=code, reason=reason)


_NOTE = (
    "INSERT INTO triggerapp_delivery (id, environment_id, endpoint_id, verdict, code, reason, type, external_id, key, "
    "event, headers, body, size, remote) SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s "
    "WHERE (SELECT count(*) FROM (SELECT 1 FROM triggerapp_delivery WHERE endpoint_id = %s AND verdict <> 'accepted' "
    "AND received_at > now() - interval '1 hour' LIMIT %s) found) < %s"
)
_NOTHING_READ = Reading(type="", payload="", external_id="", key="")


def _note(
    endpoint: Endpoint,
    request: Request,
    verdict: Verdict,
    *,
    code: str = "",
    reason: str = "",
    reading: Reading = _NOTHING_READ,
    event: UUID | None = None,
) -> None:
    """Write into the log what was not accepted, unless there is enough of it."""
    # fmt: off
    sql.run(_NOTE, [
        new_id(), endpoint.environment_id, endpoint.pk, verdict.value, code, reason,
        reading.type, reading.external_id, reading.key, event,
        _headers(endpoint, request.headers), request.body[:NOTED_BYTES], len(request.body), request.remote,
        endpoint.pk, NOTED_PER_HOUR, NOTED_PER_HOUR,
    ])
    # fmt: on


def _headers(endpoint: Endpoint, headers: Headers) -> str:
    """The headers as JSON text; of what proves who sent them only the beginning: nobody replays them from here."""
    signature = webhooks.scheme_of(endpoint).signature
    shown = {
        limits.storable(name)[:_HEADER_CHARACTERS]: _shown(
            name, limits.storable(value)[:_HEADER_CHARACTERS], is_signature=name == signature or "signature" in name
        )
        for name, value in list(headers.items())[:_HEADERS]
    }
    return json.dumps(shown)


def _shown(name: str, value: str, *, is_signature: bool) -> str:
    if is_signature:
        return f"{value[:_SHOWN]}…"
    return "(hidden)" if _SECRET_HEADERS.search(name) else value


_OLD = (
    "environment_id = %s AND (received_at < now() - %s OR "
    "(verdict <> 'accepted' AND received_at < now() - interval '3 days'))"
)


def prune(limit: int = 1000) -> int:
    """Delete what is older than its retention; what was not accepted goes sooner. How many."""
    sql.run("DELETE FROM triggerapp_endpointsecret WHERE expires_at < now() - interval '7 days'")
    params = [environments.current(), conf.get().WEBHOOK_RETENTION]
    return sql.delete_some("triggerapp_delivery", _OLD, params, limit=limit)
