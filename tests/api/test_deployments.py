"""Deployments over HTTP: registered once, promoted one at a time."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.inprocess import at_once
from triggerapp.engine import deployments, environments, keys
from triggerapp.engine.deployments import Build
from triggerapp.models import AuditEntry, Deployment

pytestmark = pytest.mark.usefixtures("database")
DEPLOYMENTS = "/api/v1/deployments"


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def register(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post(DEPLOYMENTS, fields)
    assert answer.status == 200, answer.body
    return answer.body


def current(api: Api) -> str:
    return api.get(f"{DEPLOYMENTS}/current").body["version"]


def test_a_version_gets_the_day_and_a_number_and_is_current_at_once(api):
    first, second = register(api, runtime="python", git={"commitSha": "abc"}), register(api)
    assert re.fullmatch(r"\d{8}\.1", first["version"])
    assert second["version"] == first["version"][:-1] + "2"
    assert (first["status"], first["runtime"], first["git"]) == ("DEPLOYED", "python", {"commitSha": "abc"})
    assert current(api) == second["version"]
    assert api.get(f"{DEPLOYMENTS}/{first['id']}").body == first
    assert api.get(f"{DEPLOYMENTS}/latest").body == second


def test_the_same_version_again_is_the_same_deployment(api):
    assert register(api, version="v1") == register(api, version="v1")
    assert Deployment.objects.count() == 1
    assert list(AuditEntry.objects.filter(target="v1").order_by("id").values_list("action", flat=True)) == [
        "deployment.register",
        "deployment.promote",
    ]


def test_an_older_version_is_promoted_again(api):
    for version in ("v1", "v2"):
        register(api, version=version)
    assert api.post(f"{DEPLOYMENTS}/v1/promote").body["version"] == "v1"
    assert current(api) == "v1"
    entry = AuditEntry.objects.filter(action="deployment.promote").latest("id")
    assert (entry.before, entry.after) == ({"current": "v2"}, {"current": "v1"})
    register(api, version="v3", promote=False)
    assert current(api) == "v1"


def test_what_is_not_there_or_did_not_succeed_is_not_promoted(api):
    assert api.get(f"{DEPLOYMENTS}/current").status == 404
    assert api.get(f"{DEPLOYMENTS}/latest").status == 404
    assert api.post(f"{DEPLOYMENTS}/v9/promote").status == 404
    assert api.get(f"{DEPLOYMENTS}/deployment_none").status == 404
    register(api, version="v1", promote=False)
    Deployment.objects.update(status="failed")
    answer = api.post(f"{DEPLOYMENTS}/v1/promote")
    assert (answer.status, answer.body["code"]) == (422, "illegal_move")
    assert api.post(DEPLOYMENTS, {"version": "v1"}).body["code"] == "illegal_move"
    assert register(api, version="v1", promote=False)["status"] == "FAILED"


def test_the_list_is_paged_and_filtered(api):
    versions = [register(api, version=f"v{n}")["version"] for n in range(3)]
    page = api.get(f"{DEPLOYMENTS}?page[size]=2").body
    rest = api.get(f"{DEPLOYMENTS}?page[size]=2&page[after]={page['pagination']['next']}").body
    assert [row["version"] for row in page["data"] + rest["data"]] == versions[::-1]
    assert api.get(f"{DEPLOYMENTS}?status=FAILED").body["data"] == []
    assert len(api.get(f"{DEPLOYMENTS}?status=DEPLOYED&period=1d").body["data"]) == 3
    assert api.get(f"{DEPLOYMENTS}?to=2020-01-01T00:00:00Z").body["data"] == []
    assert api.get(f"{DEPLOYMENTS}?status=NONE").status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"version": ""},
        {"version": "a b"},
        {"version": "v" * 65},
        {"version": 1},
        {"git": "abc"},
        {"git": {"a": "\0"}},
        {"git": {"a": "x" * 20_000}},
        {"runtime": "x" * 33},
        {"externalId": 5},
        {"image": "x"},
        {"promote": "no"},
    ],
)
def test_what_cannot_be_a_version_is_refused_with_the_reason(api, body):
    answer = api.post(DEPLOYMENTS, body)
    assert answer.status == 400, answer.body
    assert not Deployment.objects.exists()


def test_versions_registered_at_the_same_moment_have_a_number_each():
    here = environments.current()
    found = at_once(*[lambda: deployments.register(here, Build()).version] * 6)
    assert len(set(found)) == 6
