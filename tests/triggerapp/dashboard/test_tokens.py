"""Personal tokens on their page: each user's own, shown once, revoked by them or by who administers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import override_settings

from tests.factories import fresh
from triggerapp.engine import environments, keys, sql
from triggerapp.errors import BadInput
from triggerapp.levels import Level
from triggerapp.models import ApiKey, AuditEntry

URL = "/triggers/tokens/"


@pytest.fixture(autouse=True)
def _environment(database):
    environments.current()


def make(client, **fields):
    return client.post(f"{URL}create", {"name": "laptop", "days": "30", **fields})


def test_a_token_is_shown_once_and_is_of_who_made_it(viewer):
    response = make(viewer)
    text = response.context["issued"].text
    assert text in response.content.decode()
    assert response["Cache-Control"] == "no-store"
    assert keys.find(text).owner == str(User.objects.get(username="viewer").pk)
    again = viewer.get(URL).content.decode()
    assert text not in again
    assert ApiKey.objects.get().prefix in again
    assert [(entry.action, entry.actor) for entry in AuditEntry.objects.all()] == [("key.create", "user viewer")]


def test_each_sees_and_revokes_their_own_only(log_in, viewer):
    make(viewer)
    key, other = ApiKey.objects.get(), log_in("operator")
    assert list(other.get(URL).context["rows"]) == []
    assert other.post(f"{URL}{key.prefix}/revoke").status_code == 404
    assert fresh(key).revoked_at is None
    assert viewer.post(f"{URL}{key.prefix}/revoke").status_code == 302
    assert fresh(key).revoked_at is not None


def test_who_administers_sees_all_beside_the_keys_and_revokes_them(viewer, administrator):
    make(viewer)
    keys.create("dev", "shop")
    rows = administrator.get("/triggers/keys/").context["rows"]
    assert [(row.environment, row.owner) for row in rows] == [("dev", ""), ("", "viewer")]
    administrator.post(f"/triggers/keys/{rows[1].prefix}/revoke")
    assert keys.find(keys.create("dev", "x").text).owner == ""
    assert ApiKey.objects.get(prefix=rows[1].prefix).revoked_at is not None


def test_a_key_of_an_environment_is_nobodys(administrator):
    key = keys.create("dev", "shop").key
    assert administrator.post(f"{URL}{key.prefix}/revoke").status_code == 404
    assert fresh(key).revoked_at is None


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "x" * 300}, {"days": "0"}, {"days": "soon"}])
def test_a_token_that_cannot_be_is_refused_and_not_made(viewer, wrong):
    assert make(viewer, **wrong).status_code == 400
    assert ApiKey.objects.count() == 0


def everybody(request):
    return Level.VIEW


@override_settings(TRIGGERAPP={"DASHBOARD_ACCESS": f"{__name__}.everybody"})
def test_who_is_no_user_has_none(log_in):
    assert log_in("nobody").get(URL).status_code == 400
    assert make(log_in("nobody")).status_code == 400


def is_waited_for() -> bool:
    """Whether somebody waits for an advisory lock in this database."""
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    waiting = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = {here}"
    return sql.row(waiting) is not None


def test_a_token_that_is_asked_for_while_another_one_is_made_is_counted_with_it(monkeypatch):
    monkeypatch.setattr(keys, "MOST_PERSONAL", 1)

    def make_another() -> None:
        try:
            keys.create_personal("7", "second")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            keys.create_personal("7", "first")
            another, end = pool.submit(make_another), time.monotonic() + 60
            while not another.done() and not is_waited_for() and time.monotonic() < end:
                time.sleep(0.01)
        with pytest.raises(BadInput, match="revoke some"):
            another.result(60)
    assert [key.name for key in ApiKey.objects.all()] == ["first"]
