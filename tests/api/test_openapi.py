"""The OpenAPI document: of every route and method, valid, and the one that is committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drf_spectacular.validation import validate_schema

from tests.api.conftest import Api
from triggerapp.api import schemas, urls
from triggerapp.api.openapi import document

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def views() -> dict[str, type]:
    found = [getattr(route.callback, "cls", None) for route in urls.urlpatterns]
    return {view.__name__: view for view in found if view is not None}


def test_every_method_of_every_route_is_described():
    wanted = {f"{name}.{method.lower()}" for name, view in views().items() for method in view.access}
    assert set(schemas.METHODS) == wanted
    assert set(schemas.QUERIES) <= set(views())


def test_the_document_is_valid_and_has_every_route():
    found = document()
    validate_schema(found)
    assert len(found["paths"]) == len([route for route in urls.urlpatterns if hasattr(route.callback, "cls")])
    operations = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
    assert len(set(operations)) == len(operations)


def test_the_committed_document_is_the_generated_one():
    """`manage.py openapi > docs/openapi.json` writes it anew."""
    assert json.loads(COMMITTED.read_text()) == json.loads(json.dumps(document()))


@pytest.mark.django_db
def test_the_document_is_served_to_everybody():
    assert Api(None).get("/api/v1/openapi.json").body == json.loads(json.dumps(document()))
