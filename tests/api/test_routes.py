"""What is no route of ours: a refusal that programs read, and no claim on the addresses of a host project."""

from __future__ import annotations

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, resolve

from tests.api.client import client
from tests.api.conftest import Api
from triggerapp.api import errors, schemas, urls


def orders(request: HttpRequest) -> HttpResponse:
    """A view of a host project."""
    return HttpResponse()


# Of a host project that has ours before its own.
urlpatterns = [
    path("api/", include("triggerapp.api.urls")),
    path("", include("triggerapp.api.rooturls")),
    path("api/orders", orders),
    path("realtime/prices", orders),
    path("hooks/", include("triggerapp.api.ingress")),
    path("hooks/orders/of/today", orders),
]


@pytest.mark.parametrize("url", ["/api/orders", "/realtime/prices", "/hooks/orders/of/today"])
def test_a_host_project_keeps_its_own_addresses_under_api_realtime_and_hooks(url):
    assert resolve(url, urlconf=__name__).func is orders


@pytest.mark.parametrize("url", ["/api/v1/nothing", "/api/v9/runs", "/realtime/v1/nothing"])
def test_below_our_versions_there_is_nobody_else(url):
    assert resolve(url, urlconf=__name__).func is errors.no_route


@pytest.mark.parametrize("url", ["/api/v1/nothing", "/api/nothing", "/api/", "/api", "/realtime/v1/nothing"])
def test_the_standalone_project_refuses_in_words_that_programs_read(url):
    answer = client().get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("url", ["/hooks", "/hooks/", "/hooks/stripe/", "/hooks/prod/stripe/more"])
def test_a_delivery_that_names_no_endpoint_is_told_how_to_name_one(url):
    answer = client().post(url, {}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "hooks/<endpoint> or hooks/<environment>/<endpoint>" in answer.json()["error"]


CALLBACK = "/api/v1/waitpoints/tokens/waitpoint_0192f000-0000-7000-8000-000000000000/callback/none"


@pytest.mark.parametrize(
    ("method", "url", "allow"),
    [
        ("POST", "/api/v1/health", "GET, HEAD"),
        ("DELETE", "/api/v1/ready", "GET, HEAD"),
        ("PUT", "/api/v1/openapi.json", "GET, HEAD"),
        ("POST", "/api/v1/timezones", "GET, HEAD"),
        ("GET", CALLBACK, "POST"),
        ("GET", "/hooks/none", "POST"),
        ("POST", "/api/v1/packet-bytes/none", "GET, PUT"),
    ],
)
def test_a_wrong_method_is_refused_in_words_that_programs_read(method, url, allow):
    answer = client().generic(method, url)
    assert (answer.status_code, answer["Allow"], answer.json()["code"]) == (405, allow, "method_not_allowed")
    assert method in answer.json()["error"]


def _is_list(view: type | None) -> bool:
    _, answer = schemas.METHODS.get(f"{getattr(view, '__name__', '')}.get", (None, {}))
    return answer.get("type") == "array" or "data" in answer.get("properties", {})


LISTS = {
    str(route.pattern).replace("<str:project>", "any").replace("<str:environment>", "dev"): route.callback.cls
    for route in urls.urlpatterns
    if _is_list(getattr(route.callback, "cls", None))
}


@pytest.mark.django_db
@pytest.mark.parametrize("path", LISTS)
def test_every_list_refuses_a_parameter_that_it_does_not_have_and_names_those_that_it_has(path: str, api: Api):
    refused = api.get(f"/api/{path}?order=asc")
    assert (refused.status, refused.body["code"]) == (400, "bad_input")
    assert refused.body["error"].startswith("there is no parameter 'order' here; there ")
    told = {*schemas.QUERIES.get(LISTS[path].__name__, ())}
    assert set(refused.body["error"].partition("there are ")[2].split(", ")) == (told or {""})
    assert api.get(f"/api/{path}?order=").status == 200
