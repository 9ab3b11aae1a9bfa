"""Webhooks that come in: verified over their bytes, accepted once, an event when the answer says so."""

from __future__ import annotations

import json
import random
import time
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import OperationalError

from tests.api.conftest import client
from tests.inprocess import at_once, forward
from tests.triggerapp import signing
from tests.triggerapp.signing import FORM, STANDARD, TEXT, Sent
from triggerapp import failpoints
from triggerapp.engine import deliveries, events, webhooks
from triggerapp.errors import BadInput, NotFound
from triggerapp.failpoints import FailpointError
from triggerapp.models import AuditEntry, Delivery, Endpoint, EndpointSecret, Environment, Event, Verdict

pytestmark = pytest.mark.usefixtures("database")

SIGN = {
    "standard": signing.standard,
    "stripe": signing.stripe,
    "github": signing.github,
    "slack": signing.slack,
    "generic": signing.generic,
}
PRESETS = pytest.mark.parametrize("preset", SIGN)


def endpoint(preset: str = "standard", name: str = "hook", **options: Any) -> Endpoint:
    secret = STANDARD if preset == "standard" else TEXT
    return webhooks.create("dev", name, preset=preset, secret=options.pop("secret", secret), **options).endpoint


def post(sent: Sent, *, to: str = "hook", kind: str = "application/json") -> tuple[int, Any]:
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.headers.items()}
    answer = client().generic("POST", f"/hooks/{to}", sent.body, content_type=kind, **headers)
    return answer.status_code, json.loads(answer.content)


def refused(sent: Sent, code: str, status: int = 401, **options: Any) -> str:
    found, answer = post(sent, **options)
    assert (found, answer["code"]) == (status, code), answer
    assert not Event.objects.exists()
    return str(answer["error"])


# --- what is accepted -----------------------------------------------------------------------------


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


# --- what is rejected -----------------------------------------------------------------------------


@PRESETS
def test_a_body_that_was_touched_is_rejected(preset):
    endpoint(preset)
    sent = SIGN[preset]({"n": 1})
    for body in (sent.body + b" ", sent.body.replace(b" ", b""), b"", sent.body[:-1]):
        refused(Sent(body, sent.headers), "wrong_signature")


@PRESETS
def test_another_secret_is_rejected(preset):
    endpoint(preset)
    other = "whsec_" + "A" * 44 if preset == "standard" else "another secret, of another"
    refused(SIGN[preset]({"n": 1}, secret=other), "wrong_signature")


@pytest.mark.parametrize("preset", ["standard", "stripe", "slack"])
@pytest.mark.parametrize("offset", [-301, -86_400, 360, 10**9])
def test_a_replay_outside_of_the_tolerance_is_rejected(preset, offset):
    endpoint(preset)
    said = refused(SIGN[preset]({"n": 1}, at=time.time() + offset), "stale")
    assert "tolerance is 300 s" in said


def test_a_delivery_that_was_accepted_is_stale_later_and_still_one_run():
    endpoint()
    sent = signing.standard({"n": 1})
    post(sent)
    Endpoint.objects.update(tolerance=timedelta(microseconds=1))
    time.sleep(0.01)
    assert post(sent)[0] == 401
    assert Event.objects.count() == 1


def malformed(preset: str, dice: random.Random) -> Sent:
    """A delivery with its headers spoiled in one of many ways."""
    sent = SIGN[preset]({"n": dice.random()})
    name = dice.choice(list(sent.headers))
    value = sent.headers[name]
    junk = "".join(chr(dice.choice([*range(1, 10), *range(32, 256)])) for _ in range(dice.randrange(0, 80)))
    spoiled = dice.choice(
        [
            "",
            junk,
            value[: dice.randrange(len(value))],
            value + junk,
            junk + value,
            value[::-1],
            ",".join([value] * dice.randrange(2, 40)),
            " ".join(["v1,"] * dice.randrange(1, 40)),
            "v1=" * dice.randrange(1, 2000),
            "t=,v1=",
            "t=1,t=2,v1=00",
            f"t={'9' * dice.randrange(1, 400)},v1=00",
            "v1,====",
            "v1,\x00\xff",
            "-1",
            "1e9",
            "0x7f",
            "९९९",
            "NaN",
            "x" * 10_000,
        ]
    )
    return Sent(sent.body + (b"" if spoiled != value else b"!"), {**sent.headers, name: spoiled})


def test_a_thousand_malformed_signatures_get_a_4xx_with_a_code_and_a_sentence():
    dice, accepted = random.Random(7), 0
    for preset in SIGN:
        endpoint(preset, name=preset)
    for n in range(1000):
        preset = list(SIGN)[n % len(SIGN)]
        status, answer = post(malformed(preset, dice), to=preset)
        # GitHub's headers beside the signature are not signed: spoiling one changes a name, or nothing.
        accepted += status == 200
        assert status in (200, 400, 401), answer
        assert status == 200 or (answer["code"] and len(answer["error"]) > 10)
    assert accepted < 150
    assert {name.split("/")[1] for name in Event.objects.values_list("name", flat=True)} <= {
        "github",
        "stripe",
        "slack",
    }


POISON = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b'"\\u0000"',
    b'{"a": "\\ud800"}',
    b"NaN",
    b'{"a": Infinity}',
    b"1e400",
    b"9" * 5000,
    b"[" * 100_000,
    b"[" * 600 + b"]" * 600,
    b'{"$type": "bytes"}',
    b'{"type": "' + b"x" * 300 + b'"}',
    b'{"type": "\\u0000"}',
]


@pytest.mark.parametrize("body", POISON, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize("preset", ["standard", "stripe", "slack"])
def test_a_signed_body_that_cannot_be_stored_is_refused_with_a_sentence(preset, body):
    endpoint(preset)
    refused(SIGN[preset](body), "bad_body", 400)
    assert Delivery.objects.get().verdict == Verdict.REJECTED


def test_strange_bodies_that_can_be_stored_are_events():
    endpoint("github")
    for body in (b"[]", b"null", b'"text"', b'{"a": 1, "a": 2}', b"12345678901234567890", '"ü€😀"'.encode()):
        assert post(signing.github(body))[0] == 200
    assert [event.payload for event in Event.objects.order_by("id")][3] == {"a": 2}


def test_a_form_that_is_poison_is_refused_too():
    endpoint("slack")
    for body in (b"payload={", b"a=%00", b"&".join(b"a=1" for _ in range(2000)), b"a=%ff%fe"):
        status, answer = post(signing.slack(body), kind=FORM)
        assert status in (200, 400), answer
    assert not Event.objects.exclude(payload={"a": "��"}).exists()


def test_a_body_over_the_limit_is_refused_before_it_is_read(settings):
    settings.TRIGGERAPP = {"MAX_VALUE_BYTES": 100}
    endpoint()
    refused(signing.standard({"a": "x" * 100}), "payload_too_large", 413)
    assert not Delivery.objects.exists()


def test_an_endpoint_that_is_not_there_leaves_nothing():
    before = Environment.objects.count()
    for place in ("none", "nowhere/hook", "hook%00", "a" * 300):
        refused(signing.standard({}), "not_found", 404, to=place)
    assert (Delivery.objects.count(), Environment.objects.count()) == (0, before)


def test_a_get_is_no_delivery():
    assert client().get("/hooks/hook").status_code == 405


def test_without_a_secret_everything_is_rejected():
    made = endpoint()
    EndpointSecret.objects.all().delete()
    assert "rotate it" in refused(signing.standard({}), "no_secret")
    assert made.secrets.count() == 0


def test_a_secret_that_cannot_be_opened_is_a_503_for_the_provider_to_try_again(settings):
    endpoint()
    settings.SECRET_KEY = "another key than that of then"
    refused(signing.standard({}), "unreadable_secret", 503)


def test_a_disabled_endpoint_takes_nothing_until_it_is_enabled():
    endpoint()
    webhooks.set_disabled("dev", "hook", disabled=True, actor="me")
    refused(signing.standard({}), "disabled", 410)
    webhooks.set_disabled("dev", "hook", disabled=False, actor="me")
    assert post(signing.standard({}))[0] == 200
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == [
        "webhook.create",
        "webhook.disable",
        "webhook.enable",
    ]


def test_rejections_do_not_fill_the_table(monkeypatch):
    monkeypatch.setattr(deliveries, "NOTED_PER_HOUR", 5)
    endpoint()
    sent = signing.standard({"n": 1})
    for _ in range(12):
        post(Sent(b"x" * 50_000, {"webhook-signature": "v1,x" * 500}))
        post(sent)
    assert Delivery.objects.exclude(verdict=Verdict.ACCEPTED).count() == 5
    assert max(len(bytes(row.body)) for row in Delivery.objects.all()) == deliveries.NOTED_BYTES
    assert Delivery.objects.filter(verdict=Verdict.ACCEPTED).count() == 1
    forward(hours=2)
    post(Sent(b"{}"))
    assert Delivery.objects.exclude(verdict=Verdict.ACCEPTED).count() == 6


def test_what_proves_who_sent_it_is_not_kept_with_it():
    endpoint()
    sent = signing.standard({"n": 1}).with_headers(authorization="Bearer hunter2", cookie="session=hunter2")
    post(sent)
    kept = json.dumps(Delivery.objects.get().headers)
    assert "hunter2" not in kept
    assert sent.headers["webhook-signature"] not in kept
    assert sent.headers["webhook-id"] in kept


# --- secrets --------------------------------------------------------------------------------------


def test_secrets_are_encrypted_in_the_database():
    issued = webhooks.create("dev", "hook", preset="standard")
    row = EndpointSecret.objects.get()
    assert issued.secret.encode() not in bytes(row.sealed)
    assert (row.hint, webhooks.standing_secrets(issued.endpoint)) == (issued.secret[-4:], [issued.secret])
    assert issued.secret not in json.dumps(list(AuditEntry.objects.values("before", "after")))


def test_an_old_secret_stands_for_a_while_beside_the_new_one():
    endpoint()
    new = webhooks.rotate("dev", "hook", keep=timedelta(hours=1)).secret
    assert post(signing.standard({}, id="old"))[0] == 200
    assert post(signing.standard({}, id="new", secret=new))[0] == 200
    forward(hours=2)
    assert post(signing.standard({}, id="late"))[0] == 401
    assert post(signing.standard({}, id="later", secret=new))[0] == 200


def test_a_secret_that_leaked_can_go_at_once():
    endpoint()
    webhooks.rotate("dev", "hook", keep=timedelta(0))
    refused(signing.standard({}), "wrong_signature")


@pytest.mark.parametrize(
    ("preset", "fields", "says"),
    [
        ("standard", {"secret": "whsec_c2hvcnQ="}, "at least 24 bytes"),
        ("standard", {"secret": "whsec_!!!"}, "base64"),
        ("github", {"secret": "short"}, "16 characters"),
        ("stripe", {"secret": None}, "makes the secret itself"),
        ("nobody", {}, "no preset"),
        ("github", {"options": {"mark": "x"}}, "no options"),
        ("github", {"tolerance": timedelta(days=2)}, "tolerance"),
        ("generic", {"options": {"algorithm": "md5"}}, "sha256"),
        ("generic", {"options": {"signed": "{timestamp}"}}, "body"),
        ("generic", {"options": {"signed": "{timestamp}.{body}"}}, "go together"),
        ("generic", {"options": {"signature": "no header"}}, "no name of a header"),
        ("generic", {"options": {"type": "somewhere"}}, "header:NAME"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(preset, fields, says):
    with pytest.raises(BadInput, match=says):
        endpoint(preset, **fields)
    assert not Endpoint.objects.exists()


def test_names_are_unique_and_fit_into_urls():
    endpoint()
    with pytest.raises(BadInput, match="already"):
        endpoint()
    for name in ("", "Hook", "a/b", "a b", "x" * 65):
        with pytest.raises(BadInput, match="small letters"):
            endpoint(name=name)
    with pytest.raises(NotFound):
        webhooks.rotate("dev", "none")


# --- what dies in between -------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["hook.verified", "event.locked", "event.before_commit", "hook.before_commit"])
def test_what_dies_before_the_commit_leaves_nothing_and_is_accepted_next_time(where):
    endpoint()
    sent = signing.standard({"n": 1})
    failpoints.load(f"{where}:raise@1")
    try:
        with pytest.raises(FailpointError):
            deliveries.receive("dev", "hook", deliveries.Request(headers=sent.headers, body=sent.body))
    finally:
        failpoints.load("")
    assert not Delivery.objects.exists()
    assert not Event.objects.exists()
    assert post(sent)[1]["duplicate"] is False


def test_what_dies_after_the_commit_is_a_duplicate_next_time():
    endpoint()
    sent = signing.standard({"n": 1})
    failpoints.load("hook.after_commit:raise@1")
    try:
        with pytest.raises(FailpointError):
            deliveries.receive("dev", "hook", deliveries.Request(headers=sent.headers, body=sent.body))
    finally:
        failpoints.load("")
    assert post(sent)[1]["duplicate"] is True


def test_a_database_that_is_away_is_a_503(monkeypatch):
    endpoint()

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(events, "_emit", away)
    status, answer = post(signing.standard({}))
    assert (status, answer["code"]) == (503, "database_unavailable")
