"""A key opens its environment to its scopes, until it expires or is revoked; nothing else opens anything."""

from __future__ import annotations

import io
import json
import re
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.core.management import CommandError, call_command

from tests.api.conftest import Api
from tests.api.everyroute import routes
from triggerapp.clock import now
from triggerapp.engine import guard, keys, publictokens
from triggerapp.errors import BadInput
from triggerapp.management.choosing import actor
from triggerapp.models import ApiKey, AuditEntry

pytestmark = pytest.mark.django_db
WHOAMI = "/api/v1/whoami"


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("api_keys", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def test_a_key_names_its_environment_and_says_who_it_is(key_for):
    answer = key_for("read", environment="staging").get(WHOAMI)
    assert answer.status == 200
    assert answer.body["environment"] == "staging"
    assert answer.body["scopes"] == ["read"]
    assert re.fullmatch(r"key tr_stg_sk_\w{8}", answer.body["actor"])


@pytest.mark.parametrize(
    "text", [None, "", "tr_dev_sk_" + "x" * 24, "tr_dev_x", "x.y.z", "é", "tr_dev_sk_" + "x" * 10_000]
)
def test_without_a_key_nobody_gets_further(text):
    answer = Api(text).get(WHOAMI)
    assert answer.status == 401
    assert answer.body["code"] == "unauthorized"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("text", ["r_dev_sk_" + "x" * 24, "sk_dev", "x.y", "a.b.c.d"])
def test_what_is_neither_key_nor_token_is_called_neither(text):
    assert "neither a secret key, which begins with tr_, nor a public token" in Api(text).get(WHOAMI).body["error"]
    assert Api("x.y.z").get(WHOAMI).body["error"] == "the public token is not valid"


def test_a_key_is_stored_as_its_digest_only():
    issued = keys.create("prod", "shop")
    row = ApiKey.objects.values().get(pk=issued.key.pk)
    assert issued.text.startswith(row["prefix"])
    assert issued.text not in json.dumps(row, default=str)


def test_the_same_beginning_is_not_the_key():
    text = keys.create("dev", "shop").text
    forged = text[:-1] + ("a" if text[-1] != "a" else "b")
    assert Api(forged).get(WHOAMI).status == 401


def test_an_expired_and_a_revoked_key_are_refused_with_the_reason(key_for):
    expired, revoked = key_for(ttl=timedelta(days=1)), key_for()
    ApiKey.objects.filter(expires_at__isnull=False).update(expires_at=now() - timedelta(days=1))
    keys.revoke(revoked.text[:18])
    assert expired.get(WHOAMI).body["error"] == "the key has expired"
    assert revoked.get(WHOAMI).body["error"] == "the key was revoked"


def test_the_last_use_is_noted_once_a_minute(api):
    api.get(WHOAMI)
    first = ApiKey.objects.get().last_used_at
    api.get(WHOAMI)
    assert first is not None
    assert ApiKey.objects.get().last_used_at == first


def test_a_key_without_the_scope_is_refused_and_told_so(key_for):
    answer = key_for("trigger:tasks").get(WHOAMI)
    assert (answer.status, answer.body["code"]) == (403, "forbidden")


def test_a_public_token_dies_with_the_key_it_was_made_with(key_for):
    issued = keys.create("dev", "shop")
    public = Api(publictokens.issue(issued.key.pk, "dev", ["read"], ttl=timedelta(minutes=5)))
    assert public.get(WHOAMI).body["isPublicToken"] is True
    keys.revoke(issued.key.prefix)
    assert public.get(WHOAMI).status == 401


def test_a_public_token_that_is_too_old_or_altered_is_refused(settings):
    issued = keys.create("dev", "shop")
    text = publictokens.issue(issued.key.pk, "dev", ["read"], ttl=timedelta(minutes=5))
    head, payload, signature = text.split(".")
    assert Api(f"{head}.{payload}.{signature[::-1]}").get(WHOAMI).status == 401
    settings.SECRET_KEY = "another"
    assert Api(text).get(WHOAMI).status == 401


@pytest.fixture
def root() -> keys.Issued:
    return keys.create("dev", "root", root=True)


def signed(root: keys.Issued, **claims: Any) -> str:
    """A token as Trigger.dev's SDK signs it with a root key."""
    body = Api(root.text).post("/api/v1/auth/jwt/claims").body
    times = {"iat": int(time.time()), "exp": int(time.time()) + 900}
    names = {"iss": publictokens.ISSUER, "aud": publictokens.AUDIENCE}
    return jwt.encode({**body, **times, **names, "scopes": ["read"], **claims}, root.text, algorithm="HS256")


def test_who_has_a_root_key_signs_public_tokens_without_asking(root):
    public = Api(signed(root))
    assert public.get(WHOAMI).body["scopes"] == ["read"]
    assert public.post("/api/v1/auth/jwt/claims").status == 403
    assert Api(signed(root, scopes=None)).get(WHOAMI).status == 403
    keys.revoke(root.key.prefix)
    assert public.get(WHOAMI).status == 401


def test_a_root_key_is_stored_encrypted(root):
    row = ApiKey.objects.values().get(pk=root.key.pk)
    assert root.text.encode() not in bytes(row["sealed"])
    assert root.text not in json.dumps(row, default=str)


def test_a_token_that_a_root_key_did_not_sign_is_refused(root, key_for):
    other, plain = keys.create("dev", "other", root=True), keys.create("dev", "plain")
    claims = {"iss": publictokens.ISSUER, "aud": publictokens.AUDIENCE, "sub": "dev", "exp": time.time() + 60}
    for key in (root.key.pk, plain.key.pk, 0, -1, 2**70, "1", None, [], True):
        for secret in (other.text, plain.text, "x" * 40):
            text = jwt.encode({**claims, "key": key, "scopes": ["read"]}, secret, algorithm="HS256")
            guard.keys.forget()
            assert Api(text).get(WHOAMI).status == 401, (key, secret)
    assert Api(signed(root, exp=int(time.time()) + 366 * 86400)).get(WHOAMI).status == 401
    assert Api(signed(root, jti=str(uuid4()))).get(WHOAMI).status == 401
    assert Api(jwt.encode({**claims, "key": root.key.pk}, "", algorithm="none")).get(WHOAMI).status == 401


def test_a_token_for_one_use_that_a_root_key_signed_is_good_once(root):
    token = Api(signed(root, otu=True, scopes=["trigger:tasks:none"]))
    assert [token.post("/api/v1/tasks/none/trigger", {}).status for _ in range(2)] == [404, 401]


def test_other_keys_have_their_tokens_made(api):
    answer = api.post("/api/v1/auth/jwt/claims")
    assert (answer.status, "public-tokens" in answer.body["error"]) == (400, True)
    with pytest.raises(BadInput):
        keys.create("dev", "root", root=True, scopes=["read"])


def test_an_address_with_many_wrong_keys_waits_and_a_key_that_was_right_does_not(api, settings):
    settings.TRIGGERAPP = {"FAILED_RATE": "3/minute"}
    unknown, new = Api("tr_dev_sk_" + "x" * 24), Api(keys.create("dev", "new").text)
    assert api.get(WHOAMI).status == 200
    assert [unknown.get(WHOAMI).status for _ in range(4)] == [401, 401, 401, 429]
    refused = new.get(WHOAMI)
    assert (refused.status, refused.body["code"]) == (429, "throttled")
    assert 0 < int(refused.headers["Retry-After"]) <= 62
    assert api.get(WHOAMI).status == 200
    assert new.get(WHOAMI, REMOTE_ADDR="192.0.2.1").status == 200


def test_a_scope_that_means_nothing_is_refused():
    for scope in ("everything", "read:", "read:runs:", "", "read\0", "read:nonsense", "read:run:run_1"):
        with pytest.raises(BadInput):
            keys.create("dev", "shop", scopes=[scope])


def test_every_kind_that_a_route_asks_for_can_be_in_a_keys_scope():
    views = [pattern.callback.cls for pattern in routes() if hasattr(pattern.callback, "cls")]
    asked = {kind for view in views for _, kind in view.access.values()} | {
        kind for view in views for kind in view.narrow
    }
    assert asked | {"all"} == set(keys.KINDS)


def test_more_requests_than_the_rate_are_told_when_to_come_again(api, settings):
    settings.TRIGGERAPP = {"API_RATE": "2/minute"}
    assert [api.get(WHOAMI).status for _ in range(2)] == [200, 200]
    refused = api.get(WHOAMI)
    assert (refused.status, refused.body["code"]) == (429, "throttled")
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert int(refused.headers["x-ratelimit-reset"]) > now().timestamp() * 1000


def test_the_command_shows_a_key_once_lists_and_revokes_it():
    text = command("create", "--name", "shop", "--scope", "read", "--days", "1")
    assert Api(text).get(WHOAMI).status == 200
    (row,) = json.loads(command("list", "--json"))
    assert text.startswith(row["prefix"])
    assert text not in command("list")
    assert re.fullmatch(r"tr_dev_[0-9A-Za-z]{32}", command("create", "--name", "root", "--root"))
    command("revoke", row["prefix"])
    assert Api(text).get(WHOAMI).status == 401
    noted = AuditEntry.objects.order_by("pk")
    assert [entry.action for entry in noted] == ["key.create"] * 2 + ["key.revoke"]
    assert {entry.actor for entry in noted} == {actor()}
    with pytest.raises(CommandError, match="no key"):
        command("revoke", "tr_dev_sk_none")


def test_health_and_readiness_need_no_key():
    nobody = Api(None)
    assert nobody.get("/api/v1/health").body == {"status": "ok"}
    assert nobody.get("/api/v1/ready").body == {"status": "ok"}
