"""The API's routes. A host project includes them under `api/`, where the SDK looks for them."""

from __future__ import annotations

from django.urls import URLPattern, path

from triggerapp.api import health, tokens, whoami

urlpatterns: list[URLPattern] = [
    path("v1/health", health.health, name="health"),
    path("v1/ready", health.ready, name="ready"),
    path("v1/whoami", whoami.WhoAmI.as_view(), name="whoami"),
    path("v1/waitpoints/tokens/waitpoint_<uuid:token>/callback/<str:secret>", tokens.callback, name="token-callback"),
]
