"""The standalone project's URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView

from triggerapp.api import errors, ingress

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="triggers:home")),
    path("triggers/", include("triggerapp.dashboard.urls")),
    path("api/", include("triggerapp.api.urls")),
    re_path("^api(?:/|$)", errors.no_route),  # here nobody else has any
    path("hooks/", include("triggerapp.api.ingress")),
    path("hooks", ingress.nowhere),
    path("", include("triggerapp.api.rooturls")),
]
