"""Who calls, and whether they are let in. Default deny: a view without a declared scope answers nobody."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, MethodNotAllowed, Throttled
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from triggerapp import conf
from triggerapp.api import methods, personal
from triggerapp.api.principals import Principal
from triggerapp.engine import guard, keys, publictokens
from triggerapp.engine.keys import Known


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer tr_…`, or a public token."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        """The principal, always: without a key nobody gets further."""
        scheme, _, text = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise _refused("send the header Authorization: Bearer followed by a secret key of the environment")
        principal = _guarded(text.strip(), request)
        return principal, principal

    def authenticate_header(self, request: Request) -> str:
        """What makes a refusal a 401."""
        return 'Bearer realm="triggerapp"'


def _guarded(text: str, request: Request) -> Principal:
    """Whoever this is; an address with many that are nobody has to wait."""
    address = request.META.get("REMOTE_ADDR", "")
    wait = guard.keys.wait(address, text)
    if wait:
        raise Throttled(wait, "too many requests from this address had no key that stands", code="throttled")
    try:
        principal = _principal(text, request)
    except AuthenticationFailed:
        guard.keys.wrong(address)
        raise
    guard.keys.right(text)
    return principal


def _principal(text: str, request: Request) -> Principal:
    if text.startswith(keys.PERSONAL):
        return _of_user(text, request)
    if text.startswith("tr_"):
        return _of_key(text)
    if text.count(".") != 2:  # as a JWT has
        raise _refused("this is neither a secret key, which begins with tr_, nor a public token")
    return _of_token(text, request)


def _of_key(text: str) -> Principal:
    key = _standing(keys.find(text))
    return Principal(
        environment=key.environment, slug=key.slug, actor=f"key {key.prefix}", scopes=key.scopes, key=key.id
    )


def _of_user(text: str, request: Request) -> Principal:
    token = _standing(keys.find(text))
    caller = personal.principal(token, request)
    if caller is None:
        raise _refused("the user of this personal token may not see anything here, or no longer")
    return caller


def _of_token(text: str, request: Request) -> Principal:
    try:
        token = publictokens.open_token(text)
    except ValueError as error:
        raise _refused(str(error)) from error
    key = _standing(keys.by_id(token.key))
    spends = request.method not in ("GET", "HEAD") and getattr(request.parser_context.get("view"), "spends", True)
    if token.once and spends and not keys.spend(token.id, token.expires):
        raise _refused("the public token was for one use, and was used")
    actor = f"public token of {key.prefix}"
    return Principal(
        environment=key.environment, slug=key.slug, actor=actor, scopes=token.scopes, key=key.id, public=True
    )


def _standing(key: Known | None) -> Known:
    if key is None:
        raise _refused("there is no such key")
    if key.revoked:
        raise _refused("the key was revoked")
    if key.expired:
        raise _refused("the key has expired")
    return key


def _refused(why: str) -> AuthenticationFailed:
    return AuthenticationFailed(why, code="unauthorized")


class Scoped(BasePermission):
    """The view says which methods it takes and which scope each needs; a view that does not is closed."""

    message = "the key has no scope for this"
    code = "forbidden"

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether any row of the view's kind may be open to the caller; the view asks for its row."""
        if view.access and request.method not in view.access:
            raise MethodNotAllowed(str(request.method), methods.refusal(request.method, view.access))
        need = view.access.get(request.method)
        if need is None:
            return False
        principal = cast(Principal, request.user)
        verb, kind = need
        return principal.may_all(verb, kind) or principal.may_some(verb, view.narrow)


class KeyThrottle(SimpleRateThrottle):
    """So many requests per key; the count is kept in Django's default cache."""

    scope = "triggerapp"

    def get_rate(self) -> str:
        """`TRIGGERAPP["API_RATE"]`."""
        return conf.get().API_RATE

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        """A key's own count."""
        return self.cache_format % {"scope": self.scope, "ident": cast(Principal, request.user).key}
