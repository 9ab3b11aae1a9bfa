"""The OpenAPI document of the API, served and, in `docs/openapi.json`, committed."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, JsonResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from triggerapp.api.methods import takes

Json = dict[str, Any]

_SETTINGS = {
    "TITLE": "triggerapp",
    "VERSION": "v1",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "Durable Celery tasks over HTTP, in the paths and shapes of Trigger.dev v4.",
    "SERVERS": [{"url": "/api"}],
    "SCHEMA_PATH_PREFIX": "",
}


@cache
def document() -> Json:
    """The document; it changes with the code only."""
    with patched_settings(_SETTINGS):
        found: Json = SchemaGenerator(urlconf="triggerapp.api.urls").get_schema(request=None, public=True)
    return found


@takes("GET", "HEAD")
def openapi(request: HttpRequest) -> JsonResponse:
    """The document. It tells what there is to ask for, and nothing of what is stored."""
    return JsonResponse(document())
