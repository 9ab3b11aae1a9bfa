"""Completing a token by its callback URL.

The URL is the permission: its secret is checked before anything else, and a wrong one is a 404 like
an unknown token. The body is the value, JSON.
"""

from __future__ import annotations

from uuid import UUID

from django.db import OperationalError
from django.http import HttpRequest, JsonResponse

from triggerapp import conf
from triggerapp.api.methods import takes
from triggerapp.engine import tokens


@takes("POST")
def callback(request: HttpRequest, token: UUID, secret: str) -> JsonResponse:
    """Complete the token with the request's JSON body; repeating it changes nothing."""
    if not tokens.is_secret(token, secret):
        return _refuse(404, "not_found", "there is no such token")
    limit = conf.get().MAX_VALUE_BYTES
    announced = request.headers.get("Content-Length") or "0"
    if not announced.isdecimal() or int(announced) > limit or len(request.body) > limit:
        return _refuse(413, "payload_too_large", f"the body may have {limit:,} bytes")
    try:
        value = tokens.value_of(request.body or b"null")
    except ValueError as error:
        return _refuse(400, "bad_json", f"the body is not JSON that can be stored: {error}")
    try:
        completed = tokens.complete(token, value, by=f"callback {request.META.get('REMOTE_ADDR', '')}")
        standing = "" if completed else tokens.status(token)
    except OperationalError:
        return _refuse(503, "database_unavailable", "nothing was stored; call again")
    if not completed and standing != "resolved":
        return _refuse(410, "token_closed", f"the token is {standing or 'gone'}: nothing waits for it any more")
    return JsonResponse({"success": True, "already_resolved": not completed})


def _refuse(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"error": message, "code": code}, status=status)
