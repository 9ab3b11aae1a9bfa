"""The standalone project's URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="triggers:home")),
    path("triggers/", include("triggerapp.dashboard.urls")),
    path("api/", include("triggerapp.api.urls")),
    path("hooks/", include("triggerapp.api.ingress")),
    path("", include("triggerapp.api.rooturls")),
]
