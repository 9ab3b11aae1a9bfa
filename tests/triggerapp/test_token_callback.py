"""A token's URL completes it once, with JSON, for whoever knows it."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.test import Client

from triggerapp.engine import tokens
from triggerapp.models import Wait
from workers import codec

pytestmark = pytest.mark.django_db


@pytest.fixture
def token() -> UUID:
    return tokens.create(None)


def post(token: UUID, body: bytes, *, secret: str | None = None) -> tuple[int, dict[str, object]]:
    path = f"/api/v1/waitpoints/tokens/waitpoint_{token}/callback/{secret or tokens.secret(token)}"
    answer = Client(enforce_csrf_checks=True).post(path, body, content_type="application/json")
    return answer.status_code, answer.json()


def test_a_post_with_json_completes_the_token(token):
    assert post(token, b'{"ok": true}') == (200, {"success": True, "already_resolved": False})
    assert codec.loads(Wait.objects.get(pk=token).value) == {"ok": True}


def test_the_first_post_wins_and_a_second_one_says_so(token):
    post(token, b"1")
    assert post(token, b"2") == (200, {"success": True, "already_resolved": True})
    assert Wait.objects.get(pk=token).value == "1"


def test_a_wrong_secret_is_not_told_from_an_unknown_token(token):
    unknown = UUID(int=7)
    assert post(token, b"1", secret="0" * 64) == post(unknown, b"1", secret="0" * 64)
    assert Wait.objects.get(pk=token).status == "pending"


@pytest.mark.parametrize(
    "body", [b"{", b'"\\u0000"', b'"\\ud800"', b"NaN", b"\xff\xfe", b"[" * 100_000, b'{"$type": "bytes"}']
)
def test_a_body_that_cannot_be_stored_is_refused_with_a_sentence(token, body):
    status, answer = post(token, body)
    assert (status, answer["code"]) == (400, "bad_json")
    assert Wait.objects.get(pk=token).status == "pending"


def test_a_body_over_the_limit_is_refused_before_it_is_read(token, settings):
    settings.TRIGGERAPP = {"MAX_VALUE_BYTES": 10}
    assert post(token, b'"0123456789"')[0] == 413


def test_a_secret_that_is_no_ascii_is_a_wrong_one(token):
    assert post(token, b"1", secret="é")[0] == 404


def test_an_escaped_backslash_is_no_nul_and_a_value_is_no_tag(token):
    assert post(token, rb'{"a": "\\u0000", "b": "$type"}')[0] == 200


def test_a_post_to_a_token_that_timed_out_is_told_that_nothing_waits(token):
    Wait.objects.filter(pk=token).update(status="timed_out")
    assert post(token, b"1")[0] == 410
