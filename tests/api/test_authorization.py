"""Every route against every kind of caller: nobody gets in who should not, and nobody learns what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from pytest_django import DjangoDbBlocker

from tests.api.client import client
from tests.api.conftest import personal
from tests.api.everyroute import ALL, CANARY, OPEN, ROWS, Row, routes
from tests.api.production import Place, furnish, snapshot
from triggerapp.clock import now
from triggerapp.engine import environments, keys, publictokens
from triggerapp.levels import Level
from triggerapp.models import ApiKey

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

REACH_NOTHING = ("v3/batches", "v2/packets/a/b.json")
"""To announce a batch or to make room for a payload reaches no row; what uses them asks for each task."""
KINDS = "runs tasks tags batch waitpoints queues events schedules deployments envvars webhooks deliveries".split()


@pytest.fixture(scope="module")
def furnished(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Place]:
    """Made once: what a test does to it is rolled back with all that the test wrote."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield furnish()
        transaction.set_rollback(True)


@pytest.fixture
def place(furnished: Place) -> Place:
    """Production, with a row of each kind."""
    return furnished


def test_every_route_has_a_row_for_each_of_its_methods():
    wanted = {
        (route.name, method)
        for route in routes()
        if route.name not in OPEN
        for method in route.callback.cls.access  # type: ignore[union-attr]
    }
    assert {(name, row.method) for name, rows in ROWS.items() for row in rows} == wanted


def test_a_route_answers_no_method_that_it_has_not_declared():
    for route in routes():
        if route.name not in OPEN:
            view = route.callback.cls  # type: ignore[union-attr]
            served = {method.upper() for method in view.http_method_names if hasattr(view, method)}
            assert served - {"OPTIONS", "HEAD"} == set(view.access), route.name


def refuses(place: Place, row: Row, key: str | None, statuses: set[int], **options: str) -> None:
    before = snapshot()
    status, text = place.call(row, key, **options)
    assert status in statuses, (row, status, text)
    assert CANARY not in text
    assert snapshot() == before


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_nobody_gets_in_without_a_key_that_stands(row, place):
    expired, revoked = keys.create("prod", "expired", ttl=timedelta(days=1)), keys.create("prod", "revoked")
    ApiKey.objects.filter(pk=expired.key.pk).update(expires_at=now() - timedelta(days=1))
    keys.revoke(revoked.key.prefix)
    public = publictokens.issue(revoked.key.pk, "prod", ["admin"], ttl=timedelta(hours=1))
    for key in (None, "", "tr_prod_sk_" + "x" * 24, expired.text, revoked.text, public):
        refuses(place, row, key, {401})


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_no_personal_token_gets_in_that_does_not_stand_or_whose_user_may_nothing(row, place):
    expired, revoked, former = (personal("administer") for _ in range(3))
    ApiKey.objects.filter(pk=expired.key.pk).update(expires_at=now() - timedelta(days=1))
    keys.revoke(revoked.key.prefix)
    User.objects.get(pk=former.key.owner).user_permissions.clear()
    inactive, gone = personal("administer", is_active=False), personal("administer")
    User.objects.filter(pk=gone.key.owner).delete()
    for token in (expired, revoked, former, inactive, gone):
        refuses(place, row, token.text, {401})


def needs(row: Row) -> Level:
    """What the dashboard asks for where it does the same, or what comes near to it."""
    if "envvars" in row.path or row.method == "DELETE":
        return Level.ADMINISTER
    if row.path.startswith("v1/packets/"):  # given out as they are, with what others are not to see
        return Level.ADMINISTER
    if row.verb == "read":
        return Level.OPERATE if "waitpoints" in row.path else Level.VIEW
    if "deliveries" in row.path or "notices" in row.path:  # once more what came or went
        return Level.OPERATE
    administered = ("/queues/", "/webhooks/", "/deployments", "/auth/")
    return Level.ADMINISTER if any(word in row.path for word in administered) else Level.OPERATE


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_a_personal_token_may_what_its_user_may(row, place):
    for level in (Level.VIEW, Level.OPERATE, Level.ADMINISTER):
        token = personal(level.name.lower()).text
        if level < needs(row):
            refuses(place, row, token, {403})
        else:
            status, text = place.call(row, token)
            assert status not in (401, 403, 500), text


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_a_personal_token_is_of_the_environment_that_is_named(row, place):
    token = personal("administer").text
    environments.by_slug("dev")
    if row.path.startswith("v2/whoami"):  # which tells of the user
        assert [place.call(row, token, named=each)[0] for each in ("dev", "")] == [200, 200]
    elif "envvars" in row.path:  # which names it
        row = replace(row, path=row.path.replace("/prod", "/nowhere"))
    else:
        refuses(place, row, token, {404} if row.one else {row.status, 202, 400}, named="dev")
        refuses(place, row, token, {400}, named="")
    refuses(place, row, token, {404}, named="nowhere")


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_another_environment_is_not_there(row, place):
    refuses(place, row, keys.create("dev", "elsewhere").text, {404} if row.one else {row.status, 202})


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_a_key_does_nothing_beyond_its_scopes(row, place):
    for verb in ("read", "write", "trigger", "batchTrigger"):
        allowed = {"write": ("write", "trigger", "batchTrigger")}.get(verb, (verb,))
        if row.verb not in allowed:
            refuses(place, row, keys.create("prod", verb, scopes=[verb]).text, {403})


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_a_public_token_of_another_row_sees_nothing(row, place):
    key = keys.create("prod", "shop")
    scopes = [f"{verb}:{kind}:other" for verb in ("read", "write", "trigger", "batchTrigger") for kind in KINDS]
    public = publictokens.issue(key.key.pk, "prod", scopes, ttl=timedelta(hours=1))
    if row.path not in REACH_NOTHING:
        refuses(place, row, public, {403, 404})


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_who_may_gets_in(row, place):
    status, text = place.call(row, keys.create("prod", "owner").text)
    assert status not in (401, 403, 500), text
    assert status < 300 or row.path.count("none") or row.verb in ("write", "batchTrigger") or "result" in row.path, text


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.mark.parametrize("name", ROWS)
def test_a_method_that_a_route_does_not_have_is_refused_as_such_to_those_who_are_let_in(name, place):
    rows, reader = ROWS[name], keys.create("prod", "reader", scopes=["read:runs:run_1"]).text
    for method in set(METHODS) - {row.method for row in rows}:
        row = replace(rows[0], method=method, body=None)
        refuses(place, row, None, {401})
        answer = client().generic(method, place.address(row), HTTP_AUTHORIZATION=f"Bearer {reader}")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert set(answer["Allow"].split(", ")) == {row.method for row in rows}
