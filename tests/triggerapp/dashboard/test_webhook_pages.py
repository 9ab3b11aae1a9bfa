"""Webhooks on their pages: endpoints, what was posted to them and why it was refused, tests, replays."""

from __future__ import annotations

import pytest

from tests.factories import fresh
from triggerapp.dashboard import overviews
from triggerapp.engine import deliveries, environments, webhooks
from triggerapp.engine.deliveries import Request
from triggerapp.models import AuditEntry, Delivery, Endpoint, Event, Preset

URL = "/triggers/webhooks/"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(autouse=True)
def _environment(database):
    environments.current()


def make(preset=Preset.STANDARD, **fields):
    theirs = {"secret": "whsec_of_the_provider"} if preset in webhooks.THEIRS else {}
    return webhooks.create("dev", "shop", preset=preset, **{**theirs, **fields}).endpoint


def page(client, path=""):
    response = client.get(URL + path)
    assert response.status_code == 200
    return response


def actions():
    return list(AuditEntry.objects.filter(actor__startswith="user").order_by("id").values_list("action", flat=True))


def test_an_endpoint_is_made_with_a_secret_that_is_shown_once(administrator):
    response = administrator.post(f"{URL}create", {"environment": "dev", "name": "shop", "preset": "standard"})
    secret = response.context["issued"].secret
    assert secret in response.content.decode()
    for path in ("", f"{Endpoint.objects.get().pk}/"):
        text = page(administrator, path).content.decode()
        assert secret not in text
        assert "/hooks/shop" in text
        assert f"…{secret[-4:]}" in text
    assert actions() == ["webhook.create"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "Not A Slug"},
        {"preset": "none"},
        {"preset": "stripe"},
        {"environment": "none"},
        {"options": "{"},
        {"options": "[]"},
        {"preset": "generic", "options": '{"algorithm": "md5"}'},
        {"secret": "short"},
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(administrator, wrong):
    form = {"environment": "dev", "name": "shop", "preset": "standard", **wrong}
    assert administrator.post(f"{URL}create", form).status_code == 400
    assert not Endpoint.objects.exists()


@pytest.mark.parametrize("preset", Preset)
def test_a_test_is_signed_as_the_provider_would_and_is_an_event(operator, preset):
    options = {"signature": "x-hook", "signed": "{timestamp}.{body}", "timestamp": "x-time", "type": "header:x-kind"}
    endpoint = make(preset, **({"options": options} if preset == Preset.GENERIC else {}))
    context = page(operator, f"{endpoint.pk}/").context
    form = {"body": context["example"], "kind": "ping"}
    response = operator.post(f"{URL}{endpoint.pk}/test", form, follow=True)
    assert "It was accepted, and is an event." in response.content.decode()
    delivery = Delivery.objects.get()
    assert (delivery.verdict, delivery.remote) == ("accepted", "test")
    assert Event.objects.get().name == f"webhook/shop/{delivery.type}"
    if context["kind_header"]:
        assert delivery.type == "ping"
    assert actions() == ["webhook.test"]


def test_a_test_that_is_refused_says_why(operator):
    endpoint = make()
    response = operator.post(f"{URL}{endpoint.pk}/test", {"body": "{"}, follow=True)
    assert "It was rejected: the body is neither JSON nor a form" in response.content.decode()
    webhooks.set_disabled("dev", "shop", disabled=True)
    response = operator.post(f"{URL}{endpoint.pk}/test", {"body": "{}"}, follow=True)
    assert "this endpoint was disabled" in response.content.decode()
    endpoint.secrets.all().delete()
    assert operator.post(f"{URL}{endpoint.pk}/test", {"body": "{}"}).status_code == 400


def test_a_delivery_says_what_became_of_it_and_why(viewer):
    endpoint = make()
    headers = {"webhook-signature": "v1,AAAA", "webhook-id": EVIL, "x-note": EVIL, "cookie": "s3cret"}
    deliveries.receive("dev", "shop", Request(headers=headers, body=b'{"password": "hunter2", "n": 1}'))
    found = Delivery.objects.get()
    assert found.reason
    assert found.reason in page(viewer, f"{endpoint.pk}/?verdict=rejected").content.decode()
    assert page(viewer, f"{endpoint.pk}/?verdict=accepted").context["found"].rows == []
    text = viewer.get(f"/triggers/deliveries/{found.pk}/").content.decode()
    assert found.code in text
    assert "hunter2" not in text
    assert "s3cret" not in text
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "Replay" not in text


def test_an_accepted_delivery_is_an_event_once_more(operator, viewer):
    endpoint = make()
    operator.post(f"{URL}{endpoint.pk}/test", {"body": '{"type": "paid", "n": 1}'})
    delivery = Delivery.objects.get()
    url = f"/triggers/deliveries/{delivery.pk}/replay"
    assert viewer.post(url).status_code == 403
    response = operator.post(url)
    first, second = Event.objects.order_by("id")
    assert response.headers["Location"] == f"/triggers/events/{second.pk}/"
    assert (first.name, first.payload) == (second.name, second.payload)
    assert actions() == ["webhook.test", "webhook.replay"]


def test_what_was_not_accepted_cannot_be_replayed(operator):
    make()
    deliveries.receive("dev", "shop", Request(headers={}, body=b"{}"))
    response = operator.post(f"/triggers/deliveries/{Delivery.objects.get().pk}/replay")
    assert response.status_code == 400
    assert Event.objects.count() == 0


def test_it_is_rotated_and_switched_by_administrators_only(administrator, operator):
    endpoint = make()
    for path, form in (("rotate", {}), ("switch", {"disabled": "1"})):
        assert operator.post(f"{URL}{endpoint.pk}/{path}", form).status_code == 403
    response = administrator.post(f"{URL}{endpoint.pk}/rotate")
    assert response.context["issued"].secret in response.content.decode()
    assert endpoint.secrets.count() == 2
    administrator.post(f"{URL}{endpoint.pk}/switch", {"disabled": "1"})
    assert fresh(endpoint).disabled_at
    administrator.post(f"{URL}{endpoint.pk}/switch", {"disabled": "0"})
    assert fresh(endpoint).disabled_at is None
    assert actions() == ["webhook.rotate", "webhook.disable", "webhook.enable"]


def test_deliveries_are_paged(viewer, monkeypatch):
    monkeypatch.setattr(overviews, "PAGE", 2)
    endpoint = make()
    for n in range(3):
        deliveries.receive("dev", "shop", Request(headers={}, body=f"{n}".encode()))
    first = page(viewer, f"{endpoint.pk}/").context
    second = page(viewer, f"{endpoint.pk}/?{first['older']}").context
    assert [len(first["found"].rows), len(second["found"].rows)] == [2, 1]
