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
