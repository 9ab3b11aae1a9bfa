"""The routes of webhooks in OpenAPI's words."""

from __future__ import annotations

from collections.abc import Mapping

from triggerapp.api.schemabasics import (
    NUMBER,
    OBJECT,
    PAGE,
    TEXT,
    TIME,
    TTL,
    YES,
    Schema,
    one_of,
    paged,
    record,
    several,
)
from triggerapp.models import FINAL, Preset, Verdict

_NAME = record("name", name=TEXT)
_SECRET = record(secret={"type": "string", "description": "told in this answer only"})
_RULES = {"options": OBJECT, "tolerance": TTL}
_PRESETS = one_of(*Preset.values)
_WANTS = {"wants": several(one_of(*(f"run.{status.value}" for status in FINAL))), "tasks": several(TEXT)}
_HEARS = {"url": TEXT, **_WANTS}
ENDPOINT = record(
    "name",
    "url",
    "preset",
    name=TEXT,
    url=TEXT,
    preset=_PRESETS,
    options=OBJECT,
    tolerance={"type": "number", "description": "seconds"},
    enabled=YES,
    secrets=several(record("hint", hint=TEXT, createdAt=TIME, expiresAt={"type": ["string", "null"]})),
    createdAt=TIME,
)
_OR_NULL: Schema = {"type": ["string", "null"]}
DELIVERY = record(
    "id",
    "endpoint",
    "verdict",
    id=TEXT,
    endpoint=TEXT,
    verdict=one_of(*Verdict.values),
    **dict.fromkeys(("code", "reason", "externalId", "event"), _OR_NULL),
    type=TEXT,
    size=NUMBER,
    remote=TEXT,
    receivedAt=TIME,
)
DESTINATION = record(
    "name", "origin", "wants", name=TEXT, origin=TEXT, enabled=YES, hint=TEXT, createdAt=TIME, **_WANTS
)
NOTICE = record(
    "id",
    "destination",
    "type",
    id=TEXT,
    destination=TEXT,
    type=TEXT,
    **dict.fromkeys(("run", "deliveredBy", "error", "deliveredAt"), _OR_NULL),
    status={"type": ["integer", "null"]},
    tries=NUMBER,
    createdAt=TIME,
)
_TOLD_ONCE_ENDPOINT: Schema = {"allOf": [ENDPOINT, _SECRET]}
_TOLD_ONCE_DESTINATION: Schema = {"allOf": [DESTINATION, _SECRET]}


def _all(items: Schema) -> Schema:
    return record("data", data=several(items))


METHODS: Mapping[str, tuple[Schema | None, Schema]] = {
    "EndpointList.get": (None, _all(ENDPOINT)),
    "EndpointList.post": (record("name", name=TEXT, preset=_PRESETS, secret=TEXT, **_RULES), _TOLD_ONCE_ENDPOINT),
    "EndpointDetail.get": (None, ENDPOINT),
    "EndpointDetail.put": (record(**_RULES), ENDPOINT),
    "EndpointDetail.delete": (None, _NAME),
    "EndpointEnable.post": (None, ENDPOINT),
    "EndpointDisable.post": (None, ENDPOINT),
    "EndpointRotate.post": (record(secret=TEXT, keep=TTL), _TOLD_ONCE_ENDPOINT),
    "DeliveryList.get": (None, paged(DELIVERY)),
    "DeliveryDetail.get": (None, {"allOf": [DELIVERY, record(headers=OBJECT, body=TEXT)]}),
    "DeliveryReplay.post": (None, record("event", event=TEXT)),
    "DestinationList.get": (None, _all(DESTINATION)),
    "DestinationList.post": (record("name", "url", name=TEXT, **_HEARS), _TOLD_ONCE_DESTINATION),
    "DestinationDetail.get": (None, DESTINATION),
    "DestinationDetail.put": (record(**_HEARS), DESTINATION),
    "DestinationDetail.delete": (None, _NAME),
    "DestinationEnable.post": (None, DESTINATION),
    "DestinationDisable.post": (None, DESTINATION),
    "DestinationRotate.post": (None, _TOLD_ONCE_DESTINATION),
    "NoticeList.get": (None, paged(NOTICE)),
    "NoticeRetry.post": (None, NOTICE),
}
QUERIES: Mapping[str, tuple[str, ...]] = {
    "DeliveryList": (*PAGE, "filter[endpoint]", "filter[verdict]"),
    "NoticeList": (*PAGE, "filter[destination]"),
}
