"""The API's routes."""

from __future__ import annotations

from django.urls import URLPattern, path

from triggerapp.api import tokens

urlpatterns: list[URLPattern] = [
    path("v1/waitpoints/tokens/waitpoint_<uuid:token>/callback/<str:secret>", tokens.callback, name="token-callback"),
]
