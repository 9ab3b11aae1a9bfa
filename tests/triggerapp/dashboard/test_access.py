"""Who sees and does what, and the headers of every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import override_settings
from django.urls import include, reverse
from django.urls import path as route

from triggerapp.dashboard import urls
from triggerapp.levels import Level

LEVELS = {
    "nobody": Level.NONE,
    "anybody": Level.NONE,
    "viewer": Level.VIEW,
    "operator": Level.OPERATE,
    "administrator": Level.ADMINISTER,
}
GUARDED = [pattern for pattern in urls.PAGES if pattern.name != "home"]
OPEN_TO = {
    Level.VIEW: "runs newer rows export run run-parts run-live journal log download waits events event tasks queues "
    "workers bulks bulk bulk-progress webhooks endpoint delivery destinations destination schedules schedule versions "
    "metrics tokens token-create token-revoke",
    Level.OPERATE: "run-retry run-replay run-cancel resolve send-event event-replay test bulk-start bulk-abort "
    "endpoint-test delivery-replay destination-test notice-retry schedule-create schedule-run schedule-switch",
    Level.ADMINISTER: "pause webhook-create endpoint-rotate endpoint-switch destination-create destination-edit "
    "destination-rotate destination-switch destination-remove schedule-delete version-promote variables variable-put "
    "variable-delete keys key-create key-revoke audit",
}
"""Who may do what, written down once more: a page that is not in it, or in another place, fails the tests."""
NEEDS = {name: level for level, names in OPEN_TO.items() for name in names.split()}


def address(pattern):
    """A URL of this route; the row it names does not exist."""
    route = str(pattern.pattern)
    kinds = {"uuid": "0192f000-0000-7000-8000-000000000000", "int": "1", "str": "none", "path": "none"}
    return "/triggers/" + re.sub(r"<(\w+):\w+>", lambda found: kinds[found[1]], route)


def test_every_page_and_button_has_its_place_in_the_matrix():
    assert {pattern.name: pattern.callback.needs for pattern in GUARDED} == NEEDS


@pytest.mark.parametrize("name", LEVELS)
def test_every_page_is_open_to_those_who_have_its_level_and_to_nobody_else(log_in, name):
    client = log_in(name)
    for pattern in GUARDED:
        view = pattern.callback
        method = client.post if view.methods == ("POST",) else client.get
        response = method(address(pattern))
        refused = 302 if name == "nobody" else 403
        if LEVELS[name] >= NEEDS[pattern.name]:
            assert response.status_code != 403, pattern
            assert "/login/" not in response.headers.get("Location", ""), pattern
        else:
            assert response.status_code == refused, pattern
        response.close()


def test_a_post_without_its_token_changes_nothing(log_in):
    client = log_in("administrator", enforce_csrf_checks=True)
    for pattern in GUARDED:
        if "POST" in pattern.callback.methods:
            assert client.post(address(pattern)).status_code == 403, pattern


def test_other_methods_are_refused(administrator):
    for pattern in GUARDED:
        assert administrator.delete(address(pattern)).status_code == 405, pattern


def test_pages_allow_our_own_files_and_nothing_inline(viewer):
    response = viewer.get("/triggers/runs/")
    policy = response["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)[1]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    html = response.content.decode()
    assert html.count(f'nonce="{nonce}"') == len(re.findall(r"<(?:script|link rel=\"stylesheet\")", html))
    assert " style=" not in html
    assert " onclick=" not in html
    again = viewer.get("/triggers/runs/")["Content-Security-Policy"]
    assert nonce not in again


def test_no_page_asks_another_host_for_anything(viewer):
    html = viewer.get("/triggers/runs/").content.decode()
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", html) == []


def test_scripts_and_styles_are_small():
    folder = Path(finders.find("triggerapp/dashboard.css")).parent
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.suffix in (".css", ".js")}
    assert {"dashboard.css", "charts.js", "uplot-1.6.32.min.js"} <= sizes.keys()
    assert sum(sizes.values()) < 250_000, sizes


def test_what_is_vendored_has_its_licence_beside_it():
    folder = Path(finders.find("triggerapp/vendor/LICENSE.txt")).parent
    licences = (folder / "LICENSE.txt").read_text().lower()
    for path in folder.glob("*.min.*"):
        name, _, version = path.name.split(".min.")[0].partition("-")
        assert name in licences, path.name
        assert version.removeprefix("sse-") in licences, path.name


def closed(request):
    return Level.NONE


@override_settings(TRIGGERAPP={"DASHBOARD_ACCESS": f"{__name__}.closed"})
def test_a_project_can_say_by_itself_who_may_do_what(administrator):
    assert administrator.get(reverse("triggers:runs")).status_code == 403


@override_settings(LOGIN_URL="/accounts/login/")
def test_a_project_without_a_login_page_of_its_own_has_the_admins(log_in):
    assert log_in("nobody").get("/triggers/runs/").url == "/admin/login/?next=/triggers/runs/"


@override_settings(LOGIN_URL="/sign-in")
def test_the_projects_own_login_page_comes_first(log_in):
    assert log_in("nobody").get("/triggers/runs/").url == "/sign-in?next=/triggers/runs/"


@override_settings(
    LOGIN_URL="/accounts/login/", ROOT_URLCONF=(route("triggers/", include("triggerapp.dashboard.urls")),)
)
def test_where_nobody_can_log_in_the_page_says_what_to_set(log_in):
    answer = log_in("nobody").get("/triggers/runs/")
    assert answer.status_code == 403
    assert "LOGIN_URL" in answer.content.decode()
