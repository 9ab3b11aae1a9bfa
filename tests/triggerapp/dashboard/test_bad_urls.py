"""What a URL asks for and cannot mean is said on the page, with what is shown instead: no page takes it in silence."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include
from django.urls import path as route

from tests.factories import make_run
from tests.inprocess import durable
from triggerapp.dashboard import urls
from triggerapp.engine import destinations, environments, webhooks
from triggerapp.models import Destination, Endpoint, Status


@durable
def greet(name: str) -> str:
    """Says hello."""
    return name


@pytest.fixture
def places(database: None) -> dict[str, Any]:
    """One of what the addresses of pages name."""
    environments.current()
    webhooks.create("dev", "hub", preset="github")
    destinations.create("dev", "ops", "https://ops.example/hook")
    return {
        "<run>": make_run(Status.COMPLETED).pk,
        "<task>": greet.name,
        "<endpoint>": Endpoint.objects.get().pk,
        "<destination>": Destination.objects.get().pk,
    }


def warnings(client: Client, address: str, places: dict[str, Any]) -> list[str]:
    for name, value in places.items():
        address = address.replace(name, str(value))
    response = client.get(f"/triggers/{address}")
    assert response.status_code == 200
    return [unescape(each) for each in re.findall(r'<p class="note error" role="alert">(.*?)</p>', _text(response))]


def _text(response: Any) -> str:
    return response.content.decode()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("runs/?period=99", "There is no period “99”; there are 1h, 24h, 7d, 30d, all. Shown is 7d."),
        ("runs/?status=odd", "There is no status “odd”; there are pending, "),
        ("runs/?batch=b1", "“b1” is no id of a batch. So no run is of it."),
        ("runs/?schedule=s1", "“s1” is no id of a schedule. So no run is of it."),
        ("runs/?root=yes", "root is 1 or 0, not “yes”. All are shown."),
        ("runs/?older=x", "“x” is no place in this list. It is shown from its beginning."),
        ("runs/?tagg=vip", "There is no filter “tagg”; there are status, "),
        ("runs/?tag=a&tag=b", "tag can be asked for once only. What counts is the last."),
        ("runs/?tag=%00", "tag is 1 to 255 characters without NUL, not “�”. So no run has it."),
        ("waits/?environment=%00", "There is no environment “�”; there are dev"),
        ("runs/?environment=atlantis", "There is no environment “atlantis”; there are dev"),
        ("runs/<run>/?level=loud", "There is no level “loud”; there are debug, info, warning, error, critical."),
        ("runs/<run>/?attempt=first", "attempt is a whole number, not “first”. It was left out."),
        ("runs/<run>/?before=-1", "before is a whole number, not “-1”. It was left out."),
        ("waits/?kind=cake", "There is no kind “cake”; there are timer, "),
        ("waits/?older=x", "“x” is no place in this list."),
        ("events/?unmatched=maybe", "unmatched is 1 or 0, not “maybe”. All are shown."),
        ("events/?older=x", "“x” is no place in this list."),
        ("metrics/?window=99", "There is no window “99”; there are 1h, "),
        ("webhooks/<endpoint>/?verdict=good", "There is no verdict “good”; there are accepted, "),
        ("webhooks/<endpoint>/?older=x", "“x” is no place in this list."),
        ("destinations/<destination>/?older=x", "“x” is no place in this list."),
        ("audit/?older=x", "“x” is no place in this list."),
        ("tasks/<task>/test?from=x", "There are no arguments of a run “x” of this task to fill in."),
        *(
            (f"{page}/?environment=atlantis", "There is no environment “atlantis”; there are dev")
            for page in "waits events queues schedules versions variables metrics webhooks destinations".split()
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_is_shown_instead(administrator, places, address, says):
    found = warnings(administrator, address, places)
    assert len(found) == 1
    assert found[0].startswith(says)


@pytest.mark.parametrize(
    "address",
    [
        "runs/?period=30d&status=failed&root=1&environment=dev&tag=none&batch=&older=",
        "runs/<run>/?level=info&attempt=1&before=5&text=x",
        "waits/?kind=timer&environment=dev",
        "events/?unmatched=1",
        "metrics/?window=6h",
        "webhooks/<endpoint>/?verdict=accepted",
    ],
)
def test_of_values_that_can_be_nothing_is_said(administrator, places, address):
    assert warnings(administrator, address, places) == []


def test_what_was_asked_for_is_text_and_no_longer_than_a_line(administrator, places):
    (said,) = warnings(administrator, "runs/?period=<b>" + "x" * 500, places)
    assert "“<b>xxx" in said
    assert len(said) < 200


PARAMETERS = (
    "period status batch schedule root older environment text tag task queue version level attempt step before kind "
    "name unmatched window verdict target from than line place run"
).split()
NOBODY = "00000000-0000-0000-0000-000000000000"
RUBBISH = ("%00", "-1", "9" * 30, "%FF%FE", "x" * 3000, "٣", "[]", "' OR 1=1 --", NOBODY)


@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda each: each[:12])
def test_no_page_breaks_whatever_its_parameters_are(administrator, places, rubbish):
    pages = [str(each.pattern) for each in urls.PAGES if "GET" in getattr(each.callback, "methods", ())]
    pages = [each for each in pages if "live" not in each and "export" not in each and "<" not in each]
    for page in [*pages, "runs/<run>/", "webhooks/<endpoint>/", "destinations/<destination>/", "tasks/<task>/test"]:
        warnings(administrator, f"{page}?{'&'.join(f'{name}={rubbish}' for name in PARAMETERS)}", places)


WITH_ID = [pattern for pattern in urls.PAGES if re.search("<(uuid|int):", str(pattern.pattern))]


def with_a_wrong_id(pattern: Any, wrong: str) -> tuple[str, str]:
    """An address of this page, and what it names that there is not."""
    (kind,) = re.findall(r"<(?:uuid|int):(\w+)_id>", str(pattern.pattern))
    address = re.sub("<(?:uuid|int):.*?>", wrong, str(pattern.pattern))
    return f"/triggers/{re.sub('<.*?>', 'csv', address)}", kind.replace("_", " ")


@pytest.mark.parametrize("pattern", WITH_ID, ids=lambda each: each.name)
def test_an_id_that_can_be_none_has_our_own_page(administrator, log_in, pattern):
    address, kind = with_a_wrong_id(pattern, "0192f000-oh-no")
    send = "post" if pattern.callback.methods == ("POST",) else "get"
    answer = getattr(administrator, send)(address)
    assert answer.status_code == 404
    assert f"There is no {kind} “0192f000-oh-no”: no {kind} has such an id." in unescape(_text(answer))
    assert '<a href="/triggers/queues/"' in _text(answer)
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert getattr(log_in("nobody"), send)(address).url == f"/admin/login/?next={address}"
    assert getattr(log_in("anybody"), send)(address).status_code == 403


@pytest.mark.parametrize("wrong", ["-1", "%00", "%E2%80%AE", "9" * 5000, "<b>", "none"])
def test_whatever_is_in_the_place_of_an_id_is_text(administrator, wrong):
    for page in ("runs", "webhooks", "schedules"):
        answer = administrator.get(f"/triggers/{page}/{wrong}/")
        assert answer.status_code == 404
        assert "There is no " in _text(answer)
        assert "<b>" not in _text(answer)
        assert len(_text(answer)) < 10_000


def test_an_address_without_its_last_slash_is_led_to_the_one_with_it(viewer, places):
    for run in (places["<run>"], "none"):
        assert viewer.get(f"/triggers/runs/{run}").url == f"/triggers/runs/{run}/"


def mine(request: HttpRequest) -> HttpResponse:
    """A page of the host project's own."""
    return HttpResponse("mine")


OURS_FIRST = (
    route("", include("triggerapp.dashboard.urls")),
    route("triggers/mine/", mine),
    route("users/7/", mine),
)


@override_settings(ROOT_URLCONF=OURS_FIRST)
def test_addresses_that_are_not_ours_are_left_to_the_project(administrator):
    assert _text(administrator.get("/users/7/")) == "mine"
    assert _text(administrator.get("/triggers/mine/")) == "mine"
    assert "Content-Security-Policy" not in administrator.get("/nothing/here/")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("period=99", "There is no period “99”"),
        ("environment=atlantis", "There is no environment “atlantis”"),
        ("tagg=vip", "There is no filter “tagg”"),
    ],
)
def test_a_file_cannot_say_what_it_has_instead_so_there_is_none(viewer, places, query, says):
    refused = viewer.get(f"/triggers/runs/export/csv?{query}")
    assert refused.status_code == 400
    assert says in _text(refused)


def test_the_environment_of_the_settings_is_one_before_its_first_use(administrator, settings):
    settings.TRIGGERAPP = {**getattr(settings, "TRIGGERAPP", {}), "ENVIRONMENT": "utopia"}
    assert warnings(administrator, "waits/?environment=utopia", {}) == []
    form = {"environment": "utopia", "name": "PLACE", "value": "x"}
    assert administrator.post("/triggers/variables/put", form).status_code == 302
