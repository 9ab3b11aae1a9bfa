"""Public tokens: made with a secret key, for its own environment, and for no more than it may do itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp.api.http import Access, View, body_of, only, texts, yes_or_no
from triggerapp.api.principals import Principal
from triggerapp.engine import keys, publictokens
from triggerapp.engine.durations import duration
from triggerapp.errors import BadInput

_DEFAULT = timedelta(minutes=15)


class Claims(View):
    """Ask what a public token has to say of the key that signs it."""

    access: ClassVar[Access] = {"POST": ("write", "publicTokens")}

    def post(self, request: Request) -> Response:
        """The claims to sign with a root key; other keys have their tokens made here."""
        if self.principal.public or keys.root_key(self.principal.key) is None:
            raise BadInput(
                "only the holder of a root key signs public tokens, as of other keys nothing is kept to check them by: "
                "have them made by POST /api/v1/auth/public-tokens, as the SDK does"
            )
        return Response(publictokens.claims_of(self.principal.key, self.principal.slug))


class PublicTokens(View):
    """Make public tokens."""

    access: ClassVar[Access] = {"POST": ("write", "publicTokens")}

    def post(self, request: Request) -> Response:
        """A token with these scopes, for a while, perhaps for one use."""
        body, caller = only(body_of(request), "scopes", "expirationTime", "oneTimeUse", "realtime"), self.principal
        scopes = texts(body, "scopes")
        if caller.public or caller.personal:
            raise BadInput("public tokens are made with a secret key of the environment, not with another token")
        for scope in scopes:
            _check_own(caller, scope)
        token = publictokens.issue(
            caller.key,
            caller.slug,
            scopes,
            ttl=_ttl(body.get("expirationTime")),
            once=yes_or_no(body, "oneTimeUse"),
            realtime=body.get("realtime"),
        )
        return Response({"token": token})


def _check_own(caller: Principal, scope: str) -> None:
    verb, kind, row = [*scope.split(":", 2), "", ""][:3]
    if not caller.may(verb, kind, [(kind, row)]):
        raise BadInput(f"the key cannot give {scope!r:.100}, which it may not do itself")


def _ttl(value: Any) -> timedelta:
    """A duration, or the second of the epoch at which the token ends."""
    if value is None:
        return _DEFAULT
    if not isinstance(value, int | float) or isinstance(value, bool):
        return duration("expirationTime", value, unit="seconds since 1970")
    try:
        return datetime.fromtimestamp(value, UTC) - datetime.now(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadInput(
            f"expirationTime={value!r:.60} must be a number of seconds since 1970, of no year beyond"
        ) from error
