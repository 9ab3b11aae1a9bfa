"""Personal tokens: each user's own, made with an expiry, shown once, revoked."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from triggerapp.dashboard import actions, overviews
from triggerapp.dashboard import keys as key_pages
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import keys
from triggerapp.errors import BadInput
from triggerapp.levels import actor


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """The tokens of whoever looks, never their secrets."""
    return _shown(request)


def _shown(request: HttpRequest, issued: keys.Issued | None = None) -> HttpResponseBase:
    rows = overviews.keys(owner=_owner(request))
    return render(
        request, "tokens.html", {"title": "Personal tokens", "active": "tokens", "rows": rows, "issued": issued}
    )


def _owner(request: HttpRequest) -> str:
    """The user; a project may let people in who are none."""
    if request.user.pk is None:
        raise BadInput("a personal token belongs to a user: log in")
    return str(request.user.pk)


@page(methods=("POST",))
def create(request: HttpRequest) -> HttpResponseBase:
    """Make a token. The answer to this request is the only place where it is ever shown."""
    name = request.POST.get("name", "").strip()
    issued = keys.create_personal(_owner(request), name, ttl=key_pages.ttl_in(request), actor=actor(request))
    return _shown(request, issued)


@page(methods=("POST",))
def revoke(request: HttpRequest, prefix: str) -> HttpResponseBase:
    """Refuse one of one's own from now on."""
    key = keys.revoke(prefix, owner=_owner(request), actor=actor(request))
    actions.say(request, f"{key.prefix}… is revoked.")
    return redirect("triggers:tokens")
