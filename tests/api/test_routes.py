"""What is no route of ours: a refusal that programs read, and no claim on the addresses of a host project."""

from __future__ import annotations

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, resolve

from tests.api.conftest import client
from triggerapp.api import errors


def orders(request: HttpRequest) -> HttpResponse:
    """A view of a host project."""
    return HttpResponse()


# Of a host project that has ours before its own.
urlpatterns = [
    path("api/", include("triggerapp.api.urls")),
    path("", include("triggerapp.api.rooturls")),
    path("api/orders", orders),
    path("realtime/prices", orders),
]


@pytest.mark.parametrize("url", ["/api/orders", "/realtime/prices"])
def test_a_host_project_keeps_its_own_addresses_under_api_and_realtime(url):
    assert resolve(url, urlconf=__name__).func is orders


@pytest.mark.parametrize("url", ["/api/v1/nothing", "/api/v9/runs", "/realtime/v1/nothing"])
def test_below_our_versions_there_is_nobody_else(url):
    assert resolve(url, urlconf=__name__).func is errors.no_route


@pytest.mark.parametrize("url", ["/api/v1/nothing", "/api/nothing", "/api/", "/realtime/v1/nothing"])
def test_the_standalone_project_refuses_in_words_that_programs_read(url):
    answer = client().get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


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
