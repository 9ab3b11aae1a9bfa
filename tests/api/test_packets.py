"""Packets: a payload that is too large for the SDK's trigger is uploaded ahead, and then named."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import Answer, Api
from tests.inprocess import durable, forward
from triggerapp.engine import keys, packets
from triggerapp.models import Packet, Run

pytestmark = pytest.mark.usefixtures("database")


@durable
def one(value: Any) -> Any:
    return value


@pytest.fixture
def api() -> Api:
    return Api(keys.create("dev", "tests").text)


def reserve(api: Api) -> tuple[str, str]:
    answer = api.put("/api/v2/packets/trigger%2Fpacket_x%2Fpayload.json")
    assert answer.status == 200, answer.body
    return answer.body["storagePath"], answer.body["presignedUrl"].partition("127.0.0.1:8000")[2]


def upload(url: str, body: bytes, kind: str = "application/json") -> Answer:
    return Api(None).call("PUT", url, raw=body, content_type=kind)


def trigger(api: Api, packet: Any) -> Answer:
    return api.post(
        f"/api/v1/tasks/{one.name}/trigger", {"payload": packet, "options": {"payloadType": "application/store"}}
    )


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"value": [1]}', "application/json", [1]),
        (b'{"json": {"value": 1}}', "application/super+json; charset=utf-8", 1),
        ("é".encode(), "text/plain", "é"),
    ],
)
def test_what_was_uploaded_is_the_payload(api, body, kind, value):
    name, url = reserve(api)
    assert upload(url, body, kind).status == 200
    assert trigger(api, name).status == 200
    args, kwargs, _ = json.loads(bytes(Run.objects.get().payload))
    assert (args[0] if args else kwargs["value"]) == value


def test_the_first_upload_counts(api):
    name, url = reserve(api)
    assert [upload(url, body).status for body in (b"1", b"2")] == [200, 200]
    assert packets.text(Packet.objects.get().pk, Packet.objects.get().environment_id) == ("application/json", "1")
    assert trigger(api, name).status == 200


def test_an_environment_keeps_so_many_packets_and_no_more(api, settings):
    settings.TRIGGERAPP = {"MAX_PACKETS": 1}
    first, second = reserve(api)[1], reserve(api)[1]
    assert [upload(url, b"1").status for url in (first, second, first)] == [200, 429, 200]
    refused = upload(second, b"1").body
    assert (refused["code"], "MAX_PACKETS" in refused["error"]) == ("too_many_packets", True)
    assert upload(reserve(Api(keys.create("prod", "tests").text))[1], b"1").status == 200
    forward(days=2)
    assert upload(reserve(api)[1], b"1").status == 200


def test_a_packet_that_was_never_uploaded_has_no_address_to_download_from(api):
    name, _ = reserve(api)
    answer = api.get(f"/api/v1/packets/{name}")
    assert (answer.status, answer.body["code"]) == (404, "not_found")


def test_another_environment_finds_none(api):
    name, url = reserve(api)
    upload(url, b"1")
    answer = trigger(Api(keys.create("prod", "tests").text), name)
    assert (answer.status, answer.body["code"]) == (404, "not_found")
    assert not Run.objects.exists()


@pytest.mark.parametrize("name", [None, 1, "", "packet_x", "packet_0192f000-0000-7000-8000-000000000000", {"a": 1}])
def test_a_packet_that_is_not_there_is_refused(api, name):
    assert trigger(api, name).status == 404
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * (3 * 1024 * 1024 + 1), "text/plain", 413),
        (b"x" * (17 * 1024 * 1024), "text/plain", 413),
        (b"{}", "application/pickle", 400),
    ],
)
def test_what_cannot_be_a_payload_is_not_stored(api, body, kind, status):
    answer = upload(reserve(api)[1], body, kind)
    assert answer.status == status
    assert answer.body["code"] in ("payload_too_large", "bad_input")
    assert not Packet.objects.exists()


@pytest.mark.parametrize("body", [b"\xff", b"{", b"NaN", b"[" * 100_000])
def test_what_is_no_payload_makes_no_run(api, body):
    name, url = reserve(api)
    upload(url, body)
    answer = trigger(api, name)
    assert (answer.status, answer.body["code"] in ("bad_json", "bad_input")) == (400, True)


def test_an_address_is_for_one_thing_and_not_for_long(api, monkeypatch):
    _, url = reserve(api)
    assert Api(None).call("GET", url).status == 404
    forged = upload(url[:-1] + ("a" if url[-1] != "a" else "b"), b"1")
    assert forged.status == 404 and "is not one of ours, or its few minutes are over" in forged.body["error"]
    monkeypatch.setattr(packets, "OPEN_FOR", timedelta(seconds=-1))
    assert upload(url, b"1").body["code"] == "not_found"
    assert not Packet.objects.exists()


def test_a_packet_is_downloaded_again(api):
    name, url = reserve(api)
    upload(url, b'{"a": 1}')
    found = api.get(f"/api/v1/packets/{name}").body["presignedUrl"].partition("127.0.0.1:8000")[2]
    answer = Api(None).get(found)
    assert (answer.body, answer.headers["Content-Type"]) == ({"a": 1}, "application/json")


def test_a_packet_is_kept_for_a_day(api):
    name, url = reserve(api)
    upload(url, b"1")
    assert packets.prune() == 0
    forward(days=2)
    assert packets.prune() == 1
    assert trigger(api, name).status == 404
