"""Bulk actions: asked for on the list of runs, done by the workers' tickers, followed and aborted here."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import redirect

from triggerapp.dashboard import actions
from triggerapp.dashboard.asked import uuid_or_none
from triggerapp.dashboard.filters import RunFilter
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import bulk, environments
from triggerapp.errors import BadInput, NotFound
from triggerapp.levels import Level, actor
from triggerapp.models import BulkAction, BulkStatus, BulkVerb


@page(Level.OPERATE, methods=("POST",))
def start(request: HttpRequest) -> HttpResponseBase:
    """Have it done to the selected runs, or to all that match the filter of the list."""
    verb = request.POST.get("verb", "")
    if verb not in BulkVerb.values:
        raise BadInput(f"a bulk action is one of {', '.join(BulkVerb.values)}")
    wanted = RunFilter.parse(QueryDict(request.POST.get("query", "")))
    if wanted.no_status:
        raise BadInput(f"there is no status {wanted.no_status!r}: show the list again, without it")
    selected = [found for text in request.POST.getlist("run") if (found := uuid_or_none(text))]
    begun = bulk.start(
        BulkVerb(verb),
        environment=environments.find(wanted.environment),
        actor=actor(request),
        selected=selected,
        matching=wanted if request.POST.get("all") == "1" else None,
    )
    return redirect("triggers:bulk", begun.pk)


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """The newest ones."""
    rows = BulkAction.objects.defer("selected").order_by("-created_at")[:100]
    return render(request, "bulks.html", {"title": "Bulk actions", "rows": rows, "active": "bulks"})


def _found(bulk_id: UUID) -> BulkAction:
    found = BulkAction.objects.defer("selected").select_related("environment").filter(pk=bulk_id).first()
    if found is None:
        raise NotFound(f"there is no bulk action {bulk_id}")
    return found


@page()
def one(request: HttpRequest, bulk_id: UUID) -> HttpResponseBase:
    """How far it is."""
    found = _found(bulk_id)
    context = {"title": f"Bulk {found.verb}", "bulk": found, "active": "bulks"}
    return render(request, "bulk.html", {**context, "running": found.status == BulkStatus.RUNNING})


@page()
def progress(request: HttpRequest, bulk_id: UUID) -> HttpResponseBase:
    """The part of the page that changes."""
    found = _found(bulk_id)
    return render(request, "_progress.html", {"bulk": found, "running": found.status == BulkStatus.RUNNING})


@page(Level.OPERATE, methods=("POST",))
def abort(request: HttpRequest, bulk_id: UUID) -> HttpResponseBase:
    """Do no more of it."""
    _found(bulk_id)
    stopped = bulk.abort(bulk_id, actor=actor(request))
    actions.say(request, "Aborted; what was done stays done." if stopped else "It was over already.", good=stopped)
    return redirect("triggers:bulk", bulk_id)
