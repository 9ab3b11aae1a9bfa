"""A personal token opens what its user may see and do, in an environment that each request names."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.api.conftest import Answer, Api, personal
from tests.factories import make_run
from tests.inprocess import durable
from triggerapp.engine import environments, keys, packets
from triggerapp.errors import BadInput
from triggerapp.levels import Level
from triggerapp.models import ApiKey, AuditEntry, Run, Status

pytestmark = pytest.mark.django_db
WHOAMI = "/api/v1/whoami"
USER = "/api/v2/whoami"
DEV = {"HTTP_X_TRIGGER_BRANCH": "dev"}


@durable
def hello(name: str) -> str:
    """Says hello."""
    return name


@pytest.fixture(autouse=True)
def _environments() -> None:
    for slug in ("dev", "staging"):
        environments.by_slug(slug)


def user_of(token: keys.Issued) -> User:
    return User.objects.get(pk=token.key.owner)


def test_it_says_who_it_is_and_what_it_may():
    token = personal("view")
    answer = Api(token.text).get(WHOAMI, **DEV)
    assert answer.status == 200
    assert answer.body["environment"] == "dev"
    assert answer.body["actor"] == f"user {user_of(token).username}, {token.key.prefix}"
    assert "read:runs" in answer.body["scopes"]
    assert not [scope for scope in answer.body["scopes"] if not scope.startswith("read:")]


@pytest.mark.parametrize("told", ["ada@shop.example", "o'brien+x@shop.example"])
def test_it_says_which_user_it_is_of_without_an_environment(told):
    token = personal("view", email=told)
    answer = Api(token.text).get(f"{USER}?projectRef=proj_x")
    assert answer.status == 200
    dashboard = "http://127.0.0.1:8000/triggers/"
    project = {"name": "proj_x", "url": dashboard, "orgTitle": "127.0.0.1"}
    known = {"userId": str(user_of(token).pk), "email": told, "dashboardUrl": dashboard}
    assert answer.body == {**known, "project": project}
    assert Api(token.text).get(USER).body == known


@pytest.mark.parametrize("missing", ["", "ada@localhost", "ada@büro.example"])
def test_a_user_without_an_address_that_clients_take_is_given_one_that_is_nobodys(missing):
    assert Api(personal("view", email=missing).text).get(USER).body["email"] == "no-email@user.invalid"


def test_a_key_is_told_that_it_is_no_users(api):
    answer = api.get(USER)
    assert (answer.status, answer.body["code"]) == (404, "not_found")
    assert "v1/whoami" in answer.body["error"]


def test_it_is_stored_as_its_digest():
    token = personal("view")
    assert re.fullmatch(r"tr_pat_[0-9A-Za-z]{32}", token.text)
    assert token.text not in json.dumps(ApiKey.objects.values().get(pk=token.key.pk), default=str)
    assert ApiKey.objects.get().last_used_at is None
    Api(token.text).get(WHOAMI, **DEV)
    assert ApiKey.objects.get().last_used_at is not None


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/v1/projects/any/runs?filter[env]=staging", {}),
        ("/api/v1/projects/any/runs?filter[env]=stg", DEV),
        ("/api/v1/projects/any/envvars/staging", {}),
        ("/api/v1/projects/any/envvars/stg", DEV),
        (WHOAMI, {"HTTP_X_TRIGGER_BRANCH": "stg"}),
    ],
)
def test_the_environment_is_named_where_the_sdk_has_a_place_for_it(path, headers):
    assert Api(personal("administer").text).get(path, **headers).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status", "says"),
    [
        (WHOAMI, {}, 400, "x-trigger-branch"),
        (WHOAMI, {"HTTP_X_TRIGGER_BRANCH": "atlantis"}, 404, "atlantis"),
        ("/api/v1/projects/any/runs", {}, 400, "filter[env]"),
        ("/api/v1/projects/any/runs?filter[env]=dev,staging", {}, 404, "one at a time"),
        ("/api/v1/projects/any/runs?filter[env]=%00", {}, 400, "cannot store"),
        ("/api/v1/projects/any/envvars/atlantis", DEV, 404, "atlantis"),
    ],
)
def test_an_environment_that_is_missing_or_unknown_is_told(path, headers, status, says):
    answer = Api(personal("administer").text).get(path, **headers)
    assert answer.status == status
    assert says in answer.body["error"]


def test_a_user_who_loses_or_gets_a_permission_has_it_at_the_next_request():
    token = personal("operate")
    api, user = Api(token.text), user_of(token)
    granted = user.user_permissions.get()
    assert trigger(api).status == 200
    user.user_permissions.clear()
    assert api.get(WHOAMI, **DEV).status == 401
    user.user_permissions.add(granted)
    assert trigger(api).status == 200
    User.objects.filter(pk=user.pk).update(is_active=False)
    refused = trigger(api)
    assert (refused.status, refused.body["code"]) == (401, "unauthorized")


def trigger(api: Api) -> Answer:
    return api.post(f"/api/v1/tasks/{hello.name}/trigger", {"payload": {"name": "Ada"}}, **DEV)


def test_the_audit_log_names_the_user():
    token = personal("operate")
    run = trigger(Api(token.text)).body["id"]
    Api(token.text).post(f"/api/v2/runs/{run}/cancel", **DEV)
    actors = set(AuditEntry.objects.filter(action__startswith="run.").values_list("actor", flat=True))
    assert actors == {f"user {user_of(token).username}, {token.key.prefix}"}


def secretive() -> str:
    """A run with a password in all that it has."""
    secret = {"password": "hunter2", "name": "Ada"}
    run = make_run(
        Status.COMPLETED,
        payload=json.dumps([[], secret, {}]).encode(),
        result=json.dumps({"user": secret}).encode(),
        result_type="application/json",
        metadata=secret,
    )
    return f"run_{run.id}"


@pytest.mark.parametrize("path", ["v3/runs/{}", "v1/runs/{}/result", "v1/runs/{}/metadata", "v1/runs"])
def test_who_does_not_administer_is_not_shown_what_the_dashboard_hides(path):
    path = f"/api/{path.format(secretive())}"
    for permission in ("view", "operate"):
        answer = Api(personal(permission).text).get(path, **DEV)
        assert answer.status == 200
        assert "hunter2" not in str(answer.body)
        assert "Ada" in str(answer.body)
    assert "hunter2" in str(Api(personal("administer").text).get(path, **DEV).body)


def test_what_is_hidden_in_json_within_json_leaves_it_json():
    answer = Api(personal("view").text).get(f"/api/v1/runs/{secretive()}/result", **DEV)
    assert json.loads(answer.body["output"]) == {"user": {"password": "(hidden)", "name": "Ada"}}


@override_settings(TRIGGERAPP={"REDACT": ["пароль"]})
def test_a_key_that_is_written_with_escapes_is_found_too():
    run = make_run(Status.COMPLETED, result=json.dumps({"пароль": "hunter2"}).encode(), result_type="application/json")
    answer = Api(personal("view").text).get(f"/api/v1/runs/run_{run.id}/result", **DEV)
    assert answer.status == 200 and "hunter2" not in str(answer.body)


@pytest.mark.parametrize(("method", "path"), [("PUT", "v1/runs/{}/metadata"), ("POST", "v1/runs/{}/replay")])
def test_what_was_hidden_is_not_taken_back_for_the_value(method, path):
    run = secretive()
    hidden = {"metadata": {"password": "(hidden)"}, "payload": {"password": "(hidden)"}}
    body = {name: hidden[name] for name in (("metadata",) if method == "PUT" else ("payload",))}
    answer = Api(personal("operate").text).call(method, f"/api/{path.format(run)}", body, **DEV)
    assert answer.status == 400 and "(hidden)" in answer.body["error"]
    assert Run.objects.get().metadata == {"password": "hunter2", "name": "Ada"}


def test_a_packet_is_not_given_to_who_is_not_to_see_all_of_it():
    packet = packets.reserve(environments.current(), actor="")
    answer = Api(personal("operate").text).get(f"/api/v1/packets/packet_{packet}", **DEV)
    assert answer.status == 403 and "as it is" in answer.body["error"]


def test_a_user_has_so_many_tokens_and_no_more(monkeypatch):
    monkeypatch.setattr(keys, "MOST_PERSONAL", 2)
    first, _ = (keys.create_personal("7", "laptop") for _ in range(2))
    with pytest.raises(BadInput, match="revoke some"):
        keys.create_personal("7", "laptop")
    keys.revoke(first.key.prefix)
    assert keys.create_personal("7", "laptop").key.owner == "7"


def test_a_subscription_hides_it_too():
    answer = Api(personal("view").text).get(f"/realtime/v1/runs/{secretive()}", **DEV)
    assert answer.status == 200
    assert "hunter2" not in str(answer.body)


def test_it_makes_no_public_tokens():
    token = personal("administer")
    assert "x-trigger-jwt" not in trigger(Api(token.text)).headers
    refused = Api(token.text).post("/api/v1/auth/public-tokens", {"scopes": ["read:runs"]}, **DEV)
    assert refused.status == 400
    claims = {"iss": "https://id.trigger.dev", "aud": "https://api.trigger.dev", "sub": "dev", "exp": 2**33}
    signed: Any = jwt.encode({**claims, "key": token.key.pk, "scopes": ["read"]}, token.text, algorithm="HS256")
    assert Api(signed).get(WHOAMI, **DEV).status == 401


def only_ada(request: Any) -> Level:
    return Level.OPERATE if request.user.username == "ada" else Level.NONE


@override_settings(TRIGGERAPP={"DASHBOARD_ACCESS": f"{__name__}.only_ada"})
def test_a_project_that_decides_by_itself_decides_for_tokens_too():
    ada, other = User.objects.create(username="ada"), personal("administer")
    assert trigger(Api(keys.create_personal(str(ada.pk), "laptop").text)).status == 200
    assert Api(other.text).get(WHOAMI, **DEV).status == 401
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert Api(keys.create_personal(str(ada.pk), "laptop").text).get(WHOAMI, **DEV).status == 401


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("api_keys", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def test_the_command_makes_lists_and_revokes_them():
    User.objects.create_superuser("root")
    text = command("create", "--name", "cron", "--user", "root", "--days", "1")
    assert Api(text).get(WHOAMI, **DEV).status == 200
    (row,) = json.loads(command("list", "--json"))
    assert (row["user"], row["environment"]) == ("root", None)
    assert text not in command("list")
    command("revoke", row["prefix"])
    assert Api(text).get(WHOAMI, **DEV).body["error"] == "the key was revoked"
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == ["key.create", "key.revoke"]


def test_the_command_refuses_users_that_are_none_and_options_of_keys():
    with pytest.raises(CommandError, match="no user 'nobody'"):
        command("create", "--name", "cron", "--user", "nobody")
    with pytest.raises(CommandError, match="--user goes without"):
        command("create", "--name", "cron", "--user", "root", "--environment", "dev")
