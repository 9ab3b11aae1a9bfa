"""Webhooks that come in: `POST hooks/<endpoint>`, or `hooks/<environment>/<endpoint>` for another than this server's.

There is no key: the signature is the permission, and it is checked over the bytes of the body. 2xx means that the
event is committed. A host project includes this module under `hooks/`.
"""

from __future__ import annotations

import logging

from django.db import OperationalError
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from triggerapp import conf, ids
from triggerapp.api.methods import takes
from triggerapp.engine import deliveries
from triggerapp.engine.deliveries import Accepted, Challenged, Outcome, Request
from triggerapp.errors import DatabaseUnavailable, NotFound

log = logging.getLogger(__name__)

_STATUSES = {"bad_body": 400, "disabled": 410, "unreadable_secret": 503}
"""All else is a signature that does not stand: 401."""
_REMOTE_CHARACTERS = 64


@takes("POST")
def receive(request: HttpRequest, endpoint: str, environment: str = "") -> JsonResponse:
    """Take a delivery; the same one twice is one event."""
    limit = conf.get().MAX_VALUE_BYTES
    announced = request.headers.get("Content-Length") or "0"
    if not announced.isdecimal() or int(announced) > limit:
        return _refuse(413, "payload_too_large", f"the body may have {limit:,} bytes")
    body = request.read(limit + 1)
    if len(body) > limit:
        return _refuse(413, "payload_too_large", f"the body may have {limit:,} bytes")
    try:
        outcome = deliveries.receive(environment or conf.get().ENVIRONMENT, endpoint, _request(request, body))
    except NotFound as error:
        return _refuse(404, error.code, str(error))
    except (OperationalError, DatabaseUnavailable) as error:
        log.warning("a delivery to %s was not stored: %s", endpoint, error)
        return _refuse(503, "database_unavailable", "the database did not answer; nothing was stored, try again")
    return _answer(endpoint, outcome)


def _request(request: HttpRequest, body: bytes) -> Request:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(headers=headers, body=body, remote=str(request.META.get("REMOTE_ADDR", ""))[:_REMOTE_CHARACTERS])


def _answer(endpoint: str, outcome: Outcome) -> JsonResponse:
    if isinstance(outcome, Challenged):
        return JsonResponse({"challenge": outcome.text})
    if isinstance(outcome, Accepted):
        event = outcome.event and ids.show("event", outcome.event)
        return JsonResponse({"received": True, "duplicate": outcome.cached, "event": event})
    log.warning("a delivery to %s was rejected: %s", endpoint, outcome.reason)
    return _refuse(_STATUSES.get(outcome.code, 401), outcome.code, outcome.reason)


def _refuse(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"error": message, "code": code}, status=status)


@csrf_exempt
def nowhere(request: HttpRequest) -> JsonResponse:
    """A delivery that names no endpoint."""
    return _refuse(
        404,
        "not_found",
        f"no endpoint has the address {request.path[:200]!r}: "
        "send deliveries to hooks/<endpoint> or hooks/<environment>/<endpoint>, without a slash at the end",
    )


urlpatterns: list[URLPattern] = [
    path("<str:endpoint>", receive, name="hook"),
    path("<str:environment>/<str:endpoint>", receive, name="hook-of"),
]
