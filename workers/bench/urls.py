"""What `workers.bench.server` serves."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("triggers/", include("triggerapp.dashboard.urls"))]
