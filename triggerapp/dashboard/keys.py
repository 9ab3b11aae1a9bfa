"""API keys: made with scopes and an expiry, shown once, revoked. For administrators; personal tokens are listed too."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from triggerapp.dashboard import actions, overviews, posted
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import environments, keys
from triggerapp.errors import BadInput
from triggerapp.levels import Level, actor

_MOST_DAYS = 3660
_CONTEXT = {"title": "API keys", "active": "keys", "verbs": keys.VERBS}


@page(Level.ADMINISTER)
def listing(request: HttpRequest) -> HttpResponseBase:
    """All keys, never their secrets."""
    return _shown(request)


def _shown(request: HttpRequest, issued: keys.Issued | None = None) -> HttpResponseBase:
    context = {**_CONTEXT, "rows": overviews.keys(), "issued": issued, "environments": environments.names()}
    return render(request, "keys.html", context)


@page(Level.ADMINISTER, methods=("POST",))
def create(request: HttpRequest) -> HttpResponseBase:
    """Make a key. The answer to this request is the only place where it is ever shown."""
    environment = posted.environment(request)
    narrower = [scope.strip() for scope in request.POST.get("scopes", "").split(",") if scope.strip()]
    scopes = [*posted.choices(request, "scope", keys.VERBS), *narrower]
    if not scopes:
        raise BadInput("a key needs a scope: choose what it may do")
    name = request.POST.get("name", "").strip()
    issued = keys.create(environment, name, scopes=scopes, ttl=ttl_in(request), actor=actor(request))
    return _shown(request, issued)


def ttl_in(request: HttpRequest) -> timedelta | None:
    """How long a key is to be valid, by the form."""
    days = request.POST.get("days", "").strip()
    if not days:
        return None
    if not days.isdecimal() or not 0 < int(days[:6]) <= _MOST_DAYS:
        raise BadInput(f"days={days!r:.20} must be a whole number from 1 to {_MOST_DAYS:,}; empty: until it is revoked")
    return timedelta(days=int(days))


@page(Level.ADMINISTER, methods=("POST",))
def revoke(request: HttpRequest, prefix: str) -> HttpResponseBase:
    """Refuse a key from now on."""
    key = keys.revoke(prefix, actor=actor(request))
    actions.say(request, f"{key.prefix}… is revoked, and every public token that was made with it.")
    return redirect("triggers:keys")
