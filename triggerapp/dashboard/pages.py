"""What every page shares: who may see it, its headers, its frame, and what is shown when something is wrong."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.contrib.messages import get_messages
from django.db import OperationalError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.shortcuts import render as django_render
from django.views.decorators.csrf import csrf_protect

from triggerapp import conf, ids, loginpage
from triggerapp.clock import about_now
from triggerapp.dashboard import asked
from triggerapp.errors import NotFound, TriggerError
from triggerapp.levels import Level, level_of

log = logging.getLogger(__name__)
P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

SECTIONS = (
    (
        "Activity",
        (
            ("runs", "Runs", Level.VIEW),
            ("waits", "Waits", Level.VIEW),
            ("events", "Events", Level.VIEW),
            ("bulks", "Bulk actions", Level.VIEW),
            ("metrics", "Metrics", Level.VIEW),
        ),
    ),
    (
        "Work",
        (
            ("tasks", "Tasks", Level.VIEW),
            ("schedules", "Schedules", Level.VIEW),
            ("queues", "Queues", Level.VIEW),
            ("workers", "Workers", Level.VIEW),
            ("versions", "Versions", Level.VIEW),
        ),
    ),
    (
        "Connections",
        (
            ("webhooks", "Webhooks", Level.VIEW),
            ("destinations", "Destinations", Level.VIEW),
            ("tokens", "Personal tokens", Level.VIEW),
        ),
    ),
    (
        "Administration",
        (
            ("variables", "Variables", Level.ADMINISTER),
            ("keys", "API keys", Level.ADMINISTER),
            ("audit", "Audit log", Level.ADMINISTER),
        ),
    ),
)
"""What the navigation leads to: the name of the URL, its word, and who may go there."""


def _open_to(level: Level) -> list[tuple[str, list[tuple[str, str]]]]:
    """The sections with what somebody of this level may see, if anything."""
    seen = [(title, [(name, word) for name, word, needs in each if level >= needs]) for title, each in SECTIONS]
    return [(title, each) for title, each in seen if each]


def page(needs: Level = Level.VIEW, *, methods: tuple[str, ...] = ("GET", "HEAD")) -> Callable[[View[P]], View[P]]:
    """Make a view a page of the dashboard: for those who have the level, with our headers and our errors."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            request.csp_nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]
            response = _answer(view, request, needs, methods, *args, **kwargs)
            _secure(response, request.csp_nonce)  # type: ignore[attr-defined]
            return response

        guarded.needs = needs  # type: ignore[attr-defined]
        guarded.methods = methods  # type: ignore[attr-defined]
        # A project without the middleware is protected too.
        return cast("View[P]", csrf_protect(guarded))

    return decorate


def _answer(
    view: View[P], request: HttpRequest, needs: Level, methods: tuple[str, ...], *args: P.args, **kwargs: P.kwargs
) -> HttpResponseBase:
    try:
        refusal = _refusal(request, needs, methods)
        return refusal if refusal is not None else view(request, *args, **kwargs)
    except (Http404, NotFound) as error:
        return failure(request, 404, "Not found", str(error))
    except OperationalError as error:
        log.warning("the database did not answer: %s", error)
        return failure(request, 503, "The database does not answer", "Nothing was changed. Try again in a moment.")
    except TriggerError as error:
        return failure(request, 400, "That was refused", str(error))


def _refusal(request: HttpRequest, needs: Level, methods: tuple[str, ...]) -> HttpResponseBase | None:
    if request.method not in methods:
        return HttpResponseNotAllowed(methods)
    level = level_of(request)
    request.dashboard_level = level  # type: ignore[attr-defined]
    if level >= needs:
        return None
    if level == Level.NONE and not request.user.is_authenticated:
        return _to_login(request)
    return failure(
        request, 403, "You may not do this", f"It needs the permission to {needs.name.lower()} in the dashboard."
    )


def _to_login(request: HttpRequest) -> HttpResponseBase:
    where = loginpage.address()
    if where is not None:
        return redirect_to_login(request.get_full_path(), where)
    why = "You are not logged in, and this project has no page to do so: its settings must name one as LOGIN_URL."
    return failure(request, 403, "Log in first", why)


def _secure(response: HttpResponseBase, nonce: str) -> None:
    """Only our own files, nothing inline, nobody's frame; and no copies in shared caches."""
    response["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Referrer-Policy"] = "same-origin"
    if not response.has_header("Cache-Control"):
        response["Cache-Control"] = "no-store"


def render(
    request: HttpRequest, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    """A template within the frame; needs none of the project's context processors."""
    level = getattr(request, "dashboard_level", Level.NONE)
    frame = {
        "nonce": getattr(request, "csp_nonce", ""),
        "sections": _open_to(level),
        "may_operate": level >= Level.OPERATE,
        "may_administer": level >= Level.ADMINISTER,
        "home": conf.get().ENVIRONMENT,
        "flower": conf.get().FLOWER_URL,
        "notes": get_messages(request),
        "wrong": asked.wrong(request),
        "now": about_now,
    }
    return django_render(request, f"triggerapp/dashboard/{template}", {**frame, **(context or {})}, status=status)


def failure(request: HttpRequest, status: int, title: str, why: str) -> HttpResponse:
    """What went wrong, in a sentence; it shows no time, and asks for none of a database that may be what is wrong."""
    return render(request, "failure.html", {"title": title, "why": why, "now": None}, status=status)


_KINDS = {"bulk_action": "bulk", "schedule": "sched", "wait": "waitpoint"}
"""Which public ids begin otherwise than the dashboard calls the row."""


@page(methods=("GET", "HEAD", "POST"))
def no_such_row(request: HttpRequest, /, **asked_for: str) -> HttpResponseBase:
    """An address of ours with something in the place of an id that is no UUID: a public id, or what can be none."""
    name, text = next(iter(asked_for.items()))  # an id comes first
    row = name.removesuffix("_id")
    found = ids.parsed(_KINDS.get(row, row), text)
    if found is not None and str(found) != text:  # a UUID is none of a kind that is counted
        return HttpResponseRedirect(request.get_full_path().replace(text, str(found), 1), preserve_request=True)
    kind = row.replace("_", " ")
    raise NotFound(f"There is no {kind} {asked.quoted(text)}: no {kind} has such an id. Is the address whole?")
