"""Bulk actions: asked for on the list of runs, done by the workers' tickers, followed and aborted here."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import redirect

from triggerapp import ids
from triggerapp.dashboard import actions, posted
from triggerapp.dashboard.filters import RunFilter, mistakes
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import bulk, environments
from triggerapp.errors import BadInput
from triggerapp.levels import Level, actor
from triggerapp.models import BulkAction, BulkStatus, BulkVerb


@page(Level.OPERATE, methods=("POST",))
def start(request: HttpRequest) -> HttpResponseBase:
    """Have it done to the selected runs, or to all that match the filter of the list."""
    posted.nothing_but(request, "verb", "all", "run", "query")
    query = QueryDict("&".join(request.POST.getlist("query")))
    wanted = RunFilter.parse(query)
    wrong = mistakes(wanted, query)
    if wrong:  # it would be done to more than was asked for
        raise BadInput(" ".join([*wrong, "Show the list again, without it."]))
    begun = bulk.start(
        BulkVerb(posted.choice(request, "verb", BulkVerb.values)),
        environment=environments.find(wanted.environment),
        actor=actor(request),
        selected=posted.selected(request, "run"),
        matching=wanted if posted.box(request, "all") else None,
    )
    return redirect("triggers:bulk", begun.pk)


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """The newest ones."""
    rows = BulkAction.objects.defer("selected").order_by("-created_at")[:100]
    return render(request, "bulks.html", {"title": "Bulk actions", "rows": rows, "active": "bulks"})


def _found(bulk_action_id: UUID) -> BulkAction:
    found = BulkAction.objects.defer("selected").select_related("environment").filter(pk=bulk_action_id).first()
    if found is None:
        raise ids.missing("bulk", bulk_action_id)
    return found


@page()
def one(request: HttpRequest, bulk_action_id: UUID) -> HttpResponseBase:
    """How far it is."""
    found = _found(bulk_action_id)
    context = {"title": f"Bulk {found.verb}", "bulk": found, "active": "bulks"}
    return render(request, "bulk.html", {**context, "running": found.status == BulkStatus.RUNNING})


@page()
def progress(request: HttpRequest, bulk_action_id: UUID) -> HttpResponseBase:
    """The part of the page that changes."""
    found = _found(bulk_action_id)
    return render(request, "_progress.html", {"bulk": found, "running": found.status == BulkStatus.RUNNING})


@page(Level.OPERATE, methods=("POST",))
def abort(request: HttpRequest, bulk_action_id: UUID) -> HttpResponseBase:
    """Do no more of it."""
    _found(bulk_action_id)
    stopped = bulk.abort(bulk_action_id, actor=actor(request))
    actions.say(request, "Aborted; what was done stays done." if stopped else "It was over already.", good=stopped)
    return redirect("triggers:bulk", bulk_action_id)
