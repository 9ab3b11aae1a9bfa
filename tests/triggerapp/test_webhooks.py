"""Webhooks that come in: verified over their bytes, accepted once, an event when the answer says so."""

from __future__ import annotations

import json
import time
from urllib.parse import quote, urlencode

import pytest

from tests.inprocess import at_once, forward
from tests.triggerapp import signing
from tests.triggerapp.hooks import PRESETS, SIGN, endpoint, post, refused
from tests.triggerapp.signing import FORM, STANDARD, TEXT, Sent
from triggerapp.engine import deliveries, webhooks
from triggerapp.models import Delivery, Event, Verdict

pytestmark = pytest.mark.usefixtures("database")


def test_of_a_key_that_a_provider_sends_twice_the_last_one_counts():
    endpoint()
    assert post(signing.standard(b'{"type": "paid", "n": 1, "n": 2}'))[0] == 200
    assert Event.objects.get().payload["n"] == 2


@PRESETS
def test_a_delivery_that_is_signed_right_is_an_event(preset):
    endpoint(preset)
    status, answer = post(SIGN[preset]({"type": "invoice.paid", "id": "evt_1", "data": {"n": 1}}))
    event = Event.objects.get()
    assert (status, answer) == (200, {"received": True, "duplicate": False, "event": f"event_{event.id}"})
    kind = {"github": "push", "generic": "message"}.get(preset, "invoice.paid")
    assert (event.name, event.payload["data"]) == (f"webhook/hook/{kind}", {"n": 1})
    delivery = Delivery.objects.get()
    assert (delivery.verdict, delivery.event, delivery.type) == (Verdict.ACCEPTED, event.id, kind)
    assert json.loads(bytes(delivery.body))["id"] == "evt_1"


@PRESETS
def test_the_same_delivery_again_is_the_same_event(preset):
    endpoint(preset)
    sent = SIGN[preset]({"id": "evt_1"})
    first, second = post(sent), post(sent)
    assert second == (200, {**first[1], "duplicate": True})
    assert Event.objects.count() == 1
    assert sorted(Delivery.objects.values_list("verdict", flat=True)) == ["accepted", "duplicate"]


def test_twenty_at_once_are_one_event():
    endpoint()
    sent = signing.standard({"n": 1})
    answers = at_once(*[lambda: post(sent)] * 20)
    assert {status for status, _ in answers} == {200}
    assert len({answer["event"] for _, answer in answers}) == 1
    assert (Event.objects.count(), sum(not answer["duplicate"] for _, answer in answers)) == (1, 1)


def test_a_retry_of_the_provider_with_a_new_time_is_the_same_event():
    endpoint()
    post(signing.standard({"n": 1}, at=time.time() - 60))
    assert post(signing.standard({"n": 1}))[1]["duplicate"]


def test_an_id_that_is_not_signed_makes_no_new_delivery():
    endpoint("github")
    sent = signing.github({"n": 1})
    post(sent)
    assert post(sent.with_headers(x_github_delivery="another"))[1]["duplicate"]
    assert Event.objects.count() == 1


def test_another_body_is_another_event_although_the_provider_repeats_its_id():
    endpoint("github")
    post(signing.github({"n": 1}))
    assert not post(signing.github({"n": 2}))[1]["duplicate"]


def test_stripe_tells_its_events_apart_by_the_id_in_the_signed_body():
    endpoint("stripe")
    post(signing.stripe({"id": "evt_1", "type": "a", "pending": 1}))
    assert post(signing.stripe({"id": "evt_1", "type": "a", "pending": 0}))[1]["duplicate"]
    assert not post(signing.stripe({"id": "evt_2", "type": "a", "pending": 1}))[1]["duplicate"]


def test_a_delivery_is_known_again_for_three_days():
    endpoint("github")
    post(signing.github({"n": 1}))
    forward(days=3, hours=1)
    deliveries.prune()
    assert post(signing.github({"n": 1}))[1]["duplicate"]
    forward(days=5)
    deliveries.prune()
    assert not Delivery.objects.exists()


def test_slack_is_answered_its_challenge_once_its_signature_is_right():
    endpoint("slack")
    body = {"type": "url_verification", "challenge": "3eZbrw1a"}
    assert refused(Sent(json.dumps(body).encode()), "no_signature")
    assert post(signing.slack(body)) == (200, {"challenge": "3eZbrw1a"})
    assert not Event.objects.exists()


def test_slack_events_are_named_by_what_happened():
    endpoint("slack")
    post(signing.slack({"type": "event_callback", "event_id": "Ev1", "event": {"type": "app_mention"}}))
    post(signing.slack(urlencode({"command": "/deploy", "text": "now"}).encode()), kind=FORM)
    post(signing.slack(urlencode({"payload": '{"type": "block_actions"}'}).encode()), kind=FORM)
    assert [event.name.split("/")[2] for event in Event.objects.order_by("id")] == [
        "app_mention",
        "slash_command",
        "block_actions",
    ]
    assert Event.objects.order_by("id")[1].payload == {"command": "/deploy", "text": "now"}


def test_github_may_send_forms():
    endpoint("github")
    assert post(signing.github(b"payload=" + quote('{"ref": "main"}').encode()), kind=FORM)[0] == 200
    assert Event.objects.get().payload == {"ref": "main"}


def test_svix_calls_its_headers_by_its_own_name():
    endpoint()
    sent = signing.standard({"type": "user.created"})
    renamed = {name.replace("webhook-", "svix-"): value for name, value in sent.headers.items()}
    assert post(Sent(sent.body, renamed))[0] == 200


def test_the_reference_library_signs_what_we_accept():
    library = pytest.importorskip("standardwebhooks")
    from datetime import UTC, datetime

    endpoint()
    now, body = datetime.now(UTC), '{"type": "a", "n": "ü"}'
    signature = library.Webhook(STANDARD).sign("msg_9", now, body)
    headers = {"webhook-id": "msg_9", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    assert post(Sent(body.encode(), headers))[0] == 200


def test_a_generic_endpoint_signs_as_it_was_described():
    options = {
        "signature": "X-Acme-Sig",
        "signed": "{timestamp}:{id}:{body}",
        "timestamp": "X-Acme-Time",
        "id": "X-Acme-Id",
        "mark": "sha256=",
        "type": "body:meta.kind",
    }
    endpoint("generic", options=options)
    when, body = str(int(time.time())), b'{"meta": {"kind": "created"}}'
    mac = signing._hex(TEXT, f"{when}:a-1:".encode() + body)
    sent = Sent(body, {"x-acme-time": when, "x-acme-id": "a-1", "x-acme-sig": f"sha256={mac.upper()}"})
    assert post(sent)[0] == 200
    assert Event.objects.get().name == "webhook/hook/created"
    delivery = Delivery.objects.get()
    assert delivery.external_id == "a-1"
    assert delivery.headers["x-acme-sig"] == f"sha256={mac.upper()}"[:12] + "…"


def test_an_endpoint_of_another_environment_has_that_in_its_url():
    webhooks.create("prod", "hook", preset="standard", secret=STANDARD)
    refused(signing.standard({}), "not_found", 404)
    assert post(signing.standard({}), to="prod/hook")[0] == 200
    assert Event.objects.get().environment.slug == "prod"
