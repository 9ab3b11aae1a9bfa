"""API keys on their page: shown once, found by their prefix, revoked; for administrators only."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.factories import fresh
from triggerapp.clock import now
from triggerapp.engine import environments, keys
from triggerapp.models import ApiKey, AuditEntry

URL = "/triggers/keys/"
FORM = {"name": "billing", "environment": "dev", "scope": ["read", "trigger"], "scopes": "write:runs", "days": "30"}


@pytest.fixture(autouse=True)
def _environment(database):
    environments.current()


def make(client, **fields):
    return client.post(f"{URL}create", {**FORM, **fields})


def test_a_key_is_shown_once_and_works(administrator):
    response = make(administrator)
    text = response.context["issued"].text
    assert text in response.content.decode()
    assert response["Cache-Control"] == "no-store"
    known = keys.find(text)
    assert known.scopes == ("read", "trigger", "write:runs")
    again = administrator.get(URL).content.decode()
    assert text not in again
    assert known.prefix in again
    assert timedelta(days=29) < ApiKey.objects.get().expires_at - now() < timedelta(days=31)


def test_who_made_and_who_revoked_it_is_in_the_audit_log_and_the_key_is_not(administrator):
    text = make(administrator).context["issued"].text
    prefix = ApiKey.objects.get().prefix
    administrator.post(f"{URL}{prefix}/revoke")
    assert keys.find(text).revoked
    entries = AuditEntry.objects.order_by("id")
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("key.create", "user administrator"),
        ("key.revoke", "user administrator"),
    ]
    assert text not in str(list(entries.values()))


def test_the_page_says_how_each_key_stands(administrator):
    made = {name: keys.create("dev", name).key for name in ("good", "old", "gone")}
    ApiKey.objects.filter(pk=made["old"].pk).update(expires_at=now() - timedelta(days=1))
    keys.revoke(made["gone"].prefix)
    rows = {row.name: row for row in administrator.get(URL).context["rows"]}
    assert {name: row.state for name, row in rows.items()} == {"good": "valid", "old": "expired", "gone": "revoked"}


def test_its_use_is_shown(administrator):
    issued = keys.create("dev", "used")
    assert administrator.get(URL).context["rows"][0].last_used_at is None
    keys.find(issued.text)
    assert administrator.get(URL).context["rows"][0].last_used_at == fresh(issued.key).last_used_at is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 300},
        {"environment": "nowhere"},
        {"environment": ""},
        {"scope": [], "scopes": ""},
        {"scope": ["everything"]},
        {"scopes": "read:"},
        {"scopes": "a\0"},
        {"days": "0"},
        {"days": "-1"},
        {"days": "soon"},
        {"days": "99999999"},
    ],
)
def test_a_key_that_cannot_be_is_refused_and_not_made(administrator, wrong):
    assert make(administrator, **wrong).status_code == 400
    assert ApiKey.objects.count() == 0


@pytest.mark.parametrize("name", ["viewer", "operator"])
def test_others_neither_see_nor_make_nor_revoke_keys(log_in, name):
    client, key = log_in(name), keys.create("dev", "theirs").key
    assert client.get(URL).status_code == 403
    assert make(client).status_code == 403
    assert client.post(f"{URL}{key.prefix}/revoke").status_code == 403
    assert fresh(key).revoked_at is None


def test_a_key_that_is_none_is_not_found(administrator):
    assert administrator.post(f"{URL}none/revoke").status_code == 404
