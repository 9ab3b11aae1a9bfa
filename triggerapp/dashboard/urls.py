"""The dashboard's routes. A host project includes them: `path("triggers/", include("triggerapp.dashboard.urls"))`."""

from __future__ import annotations

from django.urls import URLPattern, path
from django.views.generic import RedirectView

from triggerapp.dashboard import listing

app_name = "triggers"

urlpatterns: list[URLPattern] = [
    path("", RedirectView.as_view(pattern_name="triggers:runs"), name="home"),
    path("runs/", listing.runs, name="runs"),
    path("runs/new", listing.newer, name="newer"),
]
