"""The dashboard's routes. A host project includes them: `path("triggers/", include("triggerapp.dashboard.urls"))`."""

from __future__ import annotations

from django.urls import URLPattern, path
from django.views.generic import RedirectView

from triggerapp.dashboard import actions, listing, run, streams

app_name = "triggers"

urlpatterns: list[URLPattern] = [
    path("", RedirectView.as_view(pattern_name="triggers:runs"), name="home"),
    path("runs/", listing.runs, name="runs"),
    path("runs/new", listing.newer, name="newer"),
    path("runs/live", streams.rows, name="rows"),
    path("runs/<uuid:run_id>/", run.run, name="run"),
    path("runs/<uuid:run_id>/parts", run.parts, name="run-parts"),
    path("runs/<uuid:run_id>/live", streams.run, name="run-live"),
    path("runs/<uuid:run_id>/journal", run.journal, name="journal"),
    path("runs/<uuid:run_id>/download/<str:what>", run.download, name="download"),
    path("runs/<uuid:run_id>/retry", actions.retry, name="run-retry"),
    path("runs/<uuid:run_id>/replay", actions.replay, name="run-replay"),
    path("runs/<uuid:run_id>/cancel", actions.cancel, name="run-cancel"),
    path("waits/<uuid:wait_id>/resolve", actions.resolve, name="resolve"),
    path("events/send", actions.send_event, name="send-event"),
]
