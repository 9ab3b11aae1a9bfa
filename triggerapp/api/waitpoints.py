"""Wait tokens: made here or in Python, completed here, by their URL, or by whoever holds a public token."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, ClassVar

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import conf, ids
from triggerapp.api import options, parameters, queries, rendering
from triggerapp.api.http import Access, View, body_of, only, without_none
from triggerapp.api.tasks import with_token
from triggerapp.engine import tokens, triggers
from triggerapp.engine.durations import deadline, duration
from triggerapp.errors import BadInput, PayloadTooLarge
from triggerapp.models import Wait, WaitKind, WaitStatus

_TOKEN_TTL = timedelta(days=1)
_FIELDS = ("timeout", "idempotencyKey", "idempotencyKeyTTL", "tags")
"""What a new token is asked for with."""
_STATUSES = {"WAITING": ("pending",), "COMPLETED": ("resolved",), "TIMED_OUT": ("timed_out", "canceled")}
NAMES = {status: name for name, statuses in _STATUSES.items() for status in statuses}
"""What the API calls the status of a wait."""
_OVER = {
    WaitStatus.TIMED_OUT: "the token timed out",
    WaitStatus.CANCELED: "the run that waited for the token has ended",
}


def rendered(wait: Wait) -> dict[str, Any]:
    """A token as Trigger.dev's schemas want it."""
    return without_none(
        {
            "id": ids.show("waitpoint", wait.id),
            "url": tokens.url(wait.id),
            "status": NAMES[wait.status],
            "completedAt": rendering.when(wait.resolved_at),
            "timeoutAt": rendering.when(wait.expires_at),
            "idempotencyKeyExpiresAt": rendering.when(wait.idempotency_expires_at),
            "tags": wait.tags,
            "createdAt": rendering.when(wait.opened_at),
        }
    )


def _outcome(wait: Wait) -> dict[str, Any]:
    if wait.status == WaitStatus.PENDING:
        return {}
    if wait.status in _OVER:
        message = json.dumps({"message": _OVER[WaitStatus(wait.status)]})
        return {"output": message, "outputType": "application/json", "outputIsError": True}
    return {"output": wait.value or "null", "outputType": "application/json", "outputIsError": False}


class TokenList(View):
    """The environment's tokens."""

    access: ClassVar[Access] = {"GET": ("read", "waitpoints"), "POST": ("write", "waitpoints")}

    def get(self, request: Request) -> Response:
        """A page of the tokens that pass all filters, newest first."""
        params = request.query_params
        tokens_here = Wait.objects.filter(environment_id=self.principal.environment, kind=WaitKind.TOKEN)
        rows = queries.filtered(tokens_here, params, _FILTERS)
        return Response(queries.page(rows, params, time="opened_at").shown(rendered))

    def post(self, request: Request) -> Response:
        """A new token, or the one that the idempotency key had."""
        body, caller = only(body_of(request), *_FIELDS), self.principal
        timeout, ttl = body.get("timeout"), body.get("idempotencyKeyTTL")
        issued = tokens.issue(
            caller.environment,
            None if timeout is None else deadline("timeout", timeout),
            tags=options.tags_of(body.get("tags") or []),
            idempotency_key=body.get("idempotencyKey"),
            idempotency_ttl=tokens.KEY_TTL if ttl is None else duration("idempotencyKeyTTL", ttl),
            actor=caller.actor,
        )
        token = ids.show("waitpoint", issued.id)
        answer = Response({"id": token, "isCached": issued.cached, "url": tokens.url(issued.id)})
        return with_token(answer, caller, f"write:waitpoints:{token}", ttl=_TOKEN_TTL)


def _status(name: str, text: str) -> Q:
    names = [parameters.one_of(name, each, _STATUSES) for each in parameters.texts(name, text)]
    return Q(status__in=[status for each in names for status in _STATUSES[each]])


_FILTERS: queries.Filters = {
    "filter[status]": _status,
    "filter[idempotencyKey]": lambda _, text: Q(idempotency_digest=triggers.digest(text)),
    "filter[tags]": queries.among("tags__overlap"),
    **queries.since("opened_at"),
}


class TokenView(View):
    """A route of one token."""

    narrow: ClassVar[tuple[str, ...]] = ("waitpoints",)

    def token(self, token: str) -> Wait:
        """The token that the path names."""
        self.require([("waitpoints", token)], f"token {token}")
        wanted, environment = ids.read("waitpoint", token), self.principal.environment
        found = Wait.objects.filter(pk=wanted, environment_id=environment, kind=WaitKind.TOKEN).first()
        if found is None:
            raise ids.missing("waitpoint", wanted)
        return found


class TokenDetail(TokenView):
    """One token."""

    access: ClassVar[Access] = {"GET": ("read", "waitpoints")}

    def get(self, request: Request, token: str) -> Response:
        """The token as it is now, with its value if it has one."""
        found = self.token(token)
        return Response({**rendered(found), **_outcome(found)})


class TokenComplete(TokenView):
    """Complete a token."""

    access: ClassVar[Access] = {"POST": ("write", "waitpoints")}

    def post(self, request: Request, token: str) -> Response:
        """Give it its value; one that was completed before keeps the first."""
        found = self.token(token)
        text = json.dumps(only(body_of(request), "data").get("data")).encode()
        if len(text) > conf.get().MAX_VALUE_BYTES:
            raise PayloadTooLarge(f"the value may have {conf.get().MAX_VALUE_BYTES:,} bytes")
        try:
            value = tokens.value_of(text)
        except ValueError as error:
            raise BadInput(f"the value is not JSON that can be stored: {error}") from error
        tokens.complete_as(found.id, value, environment=found.environment_id, actor=self.principal.actor)
        return Response({"success": True})
