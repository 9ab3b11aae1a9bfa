"""The list of runs: filters in the URL, pages by cursor, and a word when there are newer ones."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseBase

from triggerapp.dashboard import asked, explain, exports, queries
from triggerapp.dashboard.filters import RunFilter, mistakes
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import environments
from triggerapp.engine.selection import PERIODS, Cursor
from triggerapp.models import Status


@page()
def runs(request: HttpRequest) -> HttpResponseBase:
    """One page of the list."""
    wanted = RunFilter.parse(request.GET)
    wrong = mistakes(wanted, request.GET, besides=("older",))
    asked.say(request, *(f"{what} {instead}" for what, instead in wrong.items()))
    cursor = asked.older(request, Cursor.parse)
    found = queries.runs(wanted, older_than=cursor)
    newest = found.newest if cursor is None else None
    return render(
        request,
        "runs.html",
        {
            "title": "Runs",
            "active": "runs",
            "filter": wanted,
            "query": wanted.query(),
            "query_here": wanted.query(environment=wanted.environment),
            "found": found,
            "first_page": cursor is None,
            "statuses": [(status, explain.MEANS[status]) for status in Status],
            "periods": PERIODS,
            "environments": environments.names(),
            "queues": queries.queue_names(wanted.environment),
            "older": found.older and wanted.query(older=str(found.older)),
            "live": urlencode({"run": [str(row.id) for row in found.rows if row.is_live]}, doseq=True),
            "most_exported": f"{exports.MOST:,}",
            "newer": wanted.query(than=str(newest or "")),
        },
    )


@page()
def newer(request: HttpRequest) -> HttpResponseBase:
    """How many runs came since the page was made: rows never move under somebody's cursor."""
    wanted = RunFilter.parse(request.GET)
    count = queries.newer(wanted, Cursor.parse(request.GET.get("than")))
    context = {"count": count, "most": count >= queries.MOST_NEW, "query": wanted.query()}
    return render(request, "_newer.html", context)
