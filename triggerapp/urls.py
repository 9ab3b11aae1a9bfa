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
    path("hooks/", include("triggerapp.api.ingress")),
    # Below these nobody else has any address here; a host project may, so they are not in what it includes.
    re_path("^api(?:/|$)", errors.no_route),
    re_path("^hooks(?:/|$)", ingress.nowhere),
    path("", include("triggerapp.api.rooturls")),
]
