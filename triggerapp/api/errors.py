"""What a refusal looks like: `{"error": sentence, "code": word}`, with `param` where one argument is to blame.

The one table of codes to statuses. No refusal but "later" is worth trying again, and says so to clients that ask
(`x-should-retry`, which Trigger.dev's SDK obeys).
"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DataError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response

from triggerapp.errors import TriggerError

log = logging.getLogger(__name__)

STATUSES = {
    "not_found": status.HTTP_404_NOT_FOUND,
    "illegal_move": status.HTTP_422_UNPROCESSABLE_ENTITY,
    "stale_run": status.HTTP_422_UNPROCESSABLE_ENTITY,
    "bad_input": status.HTTP_400_BAD_REQUEST,
    "bad_argument": status.HTTP_422_UNPROCESSABLE_ENTITY,
    "unreadable_secret": status.HTTP_422_UNPROCESSABLE_ENTITY,
    "unserializable": status.HTTP_400_BAD_REQUEST,
    "undecodable": status.HTTP_422_UNPROCESSABLE_ENTITY,
    "payload_too_large": status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    "too_many_packets": status.HTTP_429_TOO_MANY_REQUESTS,
    "database_unavailable": status.HTTP_503_SERVICE_UNAVAILABLE,
}
_WORTH_ANOTHER_TRY = (408, 429, 503)


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler; None for a bug, which Django reports as ever."""
    code, message, number, extra = _read(error)
    if not code:
        return None
    if isinstance(error, exceptions.UnsupportedMediaType):  # curl sends a form unless it is told
        wanted = " or ".join(parser.media_type for parser in context["view"].parser_classes)
        message = f"{message} Send it with Content-Type: {wanted}"
    response = Response({"error": message, "code": code, **extra}, status=number)
    if isinstance(error, exceptions.APIException) and getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]  # set by DRF
    wait = getattr(error, "wait", None)
    if wait is not None:
        response["Retry-After"] = str(int(wait) + 1)
        response["x-ratelimit-reset"] = str(int((time.time() + wait) * 1000) + 1)
    if number < 500 and number not in _WORTH_ANOTHER_TRY:
        response["x-should-retry"] = "false"
    return response


def plain(error: TriggerError) -> JsonResponse:
    """The same, of a route that is a function."""
    number = STATUSES.get(error.code, status.HTTP_400_BAD_REQUEST)
    return JsonResponse({"error": str(error), "code": error.code}, status=number)


@csrf_exempt
def no_route(request: HttpRequest) -> JsonResponse:
    """Whatever is no route of ours; in words that programs read."""
    return JsonResponse({"error": f"there is no route {request.path[:200]!r}", "code": "not_found"}, status=404)


def _read(error: Exception) -> tuple[str, str, int, dict[str, Any]]:
    if isinstance(error, TriggerError):
        param = getattr(error, "param", None)
        number = STATUSES.get(error.code, status.HTTP_400_BAD_REQUEST)
        return error.code, str(error), number, {} if param is None else {"param": param}
    if isinstance(error, exceptions.ValidationError):
        path, message = _first(error.detail)
        return "bad_input", f"{path}: {message}" if path else message, 400, {"param": path} if path else {}
    if isinstance(error, exceptions.APIException):
        return _code_of(error), str(error.detail), error.status_code, {}
    if isinstance(error, Http404):
        return "not_found", "there is no such thing here", 404, {}
    if isinstance(error, RequestDataTooBig):
        return "payload_too_large", "the request is too large", 413, {}
    if isinstance(error, DataError):
        return "bad_input", "PostgreSQL cannot store one of these values", 400, {}
    if isinstance(error, OperationalError):
        log.warning("the database did not answer: %s", error)
        return "database_unavailable", "the database did not answer; nothing was stored, try again", 503, {}
    return "", "", 500, {}


def _code_of(error: exceptions.APIException) -> str:
    code = error.get_codes()
    return code if isinstance(code, str) else str(error.default_code)


def _first(detail: Any, path: str = "") -> tuple[str, str]:
    """The path to the first thing that is wrong, and what it is."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        step = "" if name == "non_field_errors" else str(name)
        return _first(inner, ".".join(filter(None, (path, step))))
    if isinstance(detail, list) and detail:
        index = next((n for n, each in enumerate(detail) if each), 0)
        inner = detail[index]
        return _first(inner, f"{path}[{index}]" if isinstance(inner, dict) else path)
    return path, str(detail)
