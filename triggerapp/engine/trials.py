"""Deliveries made by hand: a test that is signed as the provider would, and one that is an event once more."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from triggerapp import ids
from triggerapp.clock import now
from triggerapp.engine import audit, deliveries, events, readings, signatures, webhooks
from triggerapp.engine.deliveries import Outcome, Request
from triggerapp.engine.signatures import Signed
from triggerapp.errors import BadInput
from triggerapp.models import Delivery, Endpoint, Preset, Verdict

Json = Any
_EXAMPLES: dict[str, Json] = {
    Preset.STANDARD: {"type": "test.sent", "data": {}},
    Preset.STRIPE: {"id": "evt_test", "type": "charge.succeeded", "data": {"object": {}}},
    Preset.GITHUB: {"zen": "Keep it logically awesome.", "repository": {"full_name": "owner/name"}},
    Preset.SLACK: {"type": "event_callback", "event_id": "Ev_test", "event": {"type": "app_mention", "text": "hello"}},
    Preset.GENERIC: {"type": "test.sent"},
}


def example(endpoint: Endpoint) -> str:
    """A body such as its provider sends, as text to be edited."""
    return json.dumps(_EXAMPLES[endpoint.preset], indent=2)


def kind_header(endpoint: Endpoint) -> str:
    """The header that says what happened; empty if the body does."""
    if endpoint.preset == Preset.GITHUB:
        return "x-github-event"
    where, _, name = str(endpoint.options.get("type", "")).partition(":")
    return name.lower() if where == "header" else ""


def send_test(endpoint: Endpoint, body: bytes, *, kind: str = "", actor: str = "") -> Outcome:
    """Sign a body with the endpoint's own secret, and take it as if it had come from outside.

    Raises `BadInput` if no secret stands, `UnreadableSecret` if no key opens it.
    """
    standing = webhooks.standing_secrets(endpoint)
    if not standing:
        raise BadInput(f"{endpoint.name} has no secret that stands: rotate it")
    scheme, id = webhooks.scheme_of(endpoint), f"test-{uuid4()}"
    headers = {
        "content-type": "application/json",
        **({kind_header(endpoint): kind} if kind_header(endpoint) else {}),
        **signatures.headers_of(scheme, standing[0], body, id=id, at=now()),
    }
    audit.record(endpoint.environment_id, actor, "webhook.test", endpoint.name)
    return deliveries.receive(
        endpoint.environment.slug, endpoint.name, Request(headers=headers, body=body, remote="test")
    )


def replay(delivery: UUID, *, actor: str = "") -> UUID:
    """Make a new event of what an accepted delivery brought; which event. Raises `NotFound`, `BadInput`."""
    found = Delivery.objects.select_related("endpoint").filter(pk=delivery).first()
    if found is None:
        raise ids.missing("delivery", delivery)
    if found.verdict != Verdict.ACCEPTED:
        raise BadInput(f"this delivery was not accepted ({found.verdict}): of such a one not all is kept, nor proven")
    endpoint, headers = found.endpoint, {str(name): str(value) for name, value in dict(found.headers).items()}
    signed = Signed(id=found.external_id)
    reading = readings.read(endpoint.preset, endpoint.options, headers, bytes(found.body), signed=signed)
    with transaction.atomic():
        name = f"webhook/{endpoint.name}/{found.type}"
        event = events.emit(name, reading.payload, environment=endpoint.environment_id).id
        after = {"delivery": str(delivery), "event": str(event)}
        audit.record(endpoint.environment_id, actor, "webhook.replay", endpoint.name, after=after)
    return event
