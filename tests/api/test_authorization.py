"""Every route against every kind of caller: nobody gets in who should not, and nobody learns what is there.

A new route without a row here fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import URLPattern

from tests.api.conftest import client, personal
from tests.factories import make_run
from triggerapp.api import rooturls, urls
from triggerapp.clock import now
from triggerapp.engine import (
    bulk,
    deployments,
    destinations,
    environments,
    envvars,
    events,
    keys,
    packets,
    publictokens,
    queues,
    tokens,
    webhooks,
)
from triggerapp.levels import Level
from triggerapp.models import (
    ApiKey,
    Batch,
    BulkAction,
    BulkVerb,
    Delivery,
    Deployment,
    Destination,
    Endpoint,
    EnvVar,
    Event,
    Notice,
    Queue,
    Run,
    Schedule,
    Status,
    Verdict,
    Wait,
)

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

CANARY = "canary-9b1d"
OPEN = {"health", "ready", "openapi", "timezones", "token-callback", "packet-bytes", "no-route", "no-realtime-route"}
"""They tell yes or no, and what the code is; callback and packets have a secret in the URL, and tests of their own."""


@dataclass(frozen=True)
class Row:
    """A route, with what it takes."""

    method: str
    path: str
    verb: str
    body: object = None
    one: bool = False
    """It is about one row: that of another environment is a 404."""
    status: int = 200
    """What it answers where it is about none."""


PLAN = {"task": "none", "cron": "0 9 * * *"}
ROWS = {
    "whoami": [Row("GET", "v1/whoami", "read")],
    "whoami-v2": [Row("GET", "v2/whoami?projectRef=none", "read", one=True)],
    "public-tokens": [Row("POST", "v1/auth/public-tokens", "write", {"scopes": ["read:runs:run_1"]})],
    "jwt-claims": [Row("POST", "v1/auth/jwt/claims", "write", status=400)],
    "packet-upload": [Row("PUT", "v2/packets/a/b.json", "trigger")],
    "packet-download": [Row("GET", "v1/packets/{packet}", "read", one=True)],
    "metrics": [Row("GET", "/metrics", "read")],
    "realtime-runs": [Row("GET", f"/realtime/v1/runs?tags={CANARY}", "read")],
    "realtime-run": [Row("GET", "/realtime/v1/runs/{run}", "read", one=True)],
    "realtime-batch": [Row("GET", "/realtime/v1/batches/{batch}", "read", one=True)],
    "task-trigger": [Row("POST", "v1/tasks/none/trigger", "trigger", {}, one=True)],
    "task-batch": [Row("POST", "v1/tasks/none/batch", "batchTrigger", {"items": [{}]}, one=True)],
    "batch-v1": [Row("POST", "v1/tasks/batch", "batchTrigger", {"items": [{"task": "none"}]}, one=True)],
    "batch-v2": [Row("POST", "v2/tasks/batch", "batchTrigger", {"items": [{"task": "none"}]}, one=True)],
    "batch-v3": [Row("POST", "v3/batches", "batchTrigger", {"runCount": 1})],
    "batch-items": [Row("POST", "v3/batches/{batch}/items", "batchTrigger", {"index": 0, "task": "none"}, one=True)],
    "batch": [Row("GET", "v1/batches/{batch}", "read", one=True)],
    "batch-retrieve-v2": [Row("GET", "v2/batches/{batch}", "read", one=True)],
    "batch-results": [Row("GET", "v1/batches/{batch}/results", "read", one=True)],
    "key-reset": [
        Row("POST", "v1/idempotencyKeys/secret-key/reset", "write", {"taskIdentifier": "tests.task"}, one=True)
    ],
    "token-list": [
        Row("GET", "v1/waitpoints/tokens", "read"),
        Row("POST", "v1/waitpoints/tokens", "write", {}),
    ],
    "token": [Row("GET", "v1/waitpoints/tokens/{token}", "read", one=True)],
    "token-complete": [Row("POST", "v1/waitpoints/tokens/{token}/complete", "write", {"data": 1}, one=True)],
    "queue-list": [Row("GET", "v1/queues", "read")],
    "queue-pause": [Row("POST", "v1/queues/{queue}/pause", "write", {"type": "id", "action": "pause"}, one=True)],
    "queue": [Row("GET", "v1/queues/{queue}", "read", one=True)],
    "queue-override": [
        Row("POST", "v1/queues/{queue}/concurrency/override", "write", {"concurrencyLimit": 1}, one=True),
    ],
    "queue-reset": [Row("POST", "v1/queues/{queue}/concurrency/reset", "write", {}, one=True)],
    "schedule-list": [
        Row("GET", "v1/schedules", "read"),
        Row("POST", "v1/schedules", "write", {**PLAN, "deduplicationKey": "k"}, one=True),
    ],
    "schedule": [
        Row("GET", "v1/schedules/{schedule}", "read", one=True),
        Row("PUT", "v1/schedules/{schedule}", "write", PLAN, one=True),
        Row("DELETE", "v1/schedules/{schedule}", "write", one=True),
    ],
    "schedule-activate": [Row("POST", "v1/schedules/{schedule}/activate", "write", one=True)],
    "schedule-deactivate": [Row("POST", "v1/schedules/{schedule}/deactivate", "write", one=True)],
    "bulk-list": [
        Row("GET", "v1/bulk-actions", "read"),
        Row("POST", "v1/bulk-actions", "write", {"action": "cancel", "runIds": ["{run}"]}, one=True),
    ],
    "bulk": [Row("GET", "v1/bulk-actions/{bulk}", "read", one=True)],
    "bulk-abort": [Row("POST", "v1/bulk-actions/{bulk}/abort", "write", one=True)],
    "deployment-list": [
        Row("GET", "v1/deployments", "read"),
        Row("POST", "v1/deployments", "write", {"version": "1"}),
    ],
    "deployment-current": [Row("GET", "v1/deployments/current", "read", one=True)],
    "deployment-latest": [Row("GET", "v1/deployments/latest", "read", one=True)],
    "deployment": [Row("GET", "v1/deployments/{deployment}", "read", one=True)],
    "deployment-promote": [Row("POST", "v1/deployments/{version}/promote", "write", one=True)],
    "env-var-list": [
        Row("GET", "v1/projects/p/envvars/prod", "read", one=True),
        Row("POST", "v1/projects/p/envvars/prod", "write", {"name": "A", "value": "a"}, one=True),
    ],
    "env-var-import": [
        Row("POST", "v1/projects/p/envvars/prod/import", "write", {"variables": {"A": "a"}}, one=True),
    ],
    "env-var": [
        Row("GET", "v1/projects/p/envvars/prod/{variable}", "read", one=True),
        Row("PUT", "v1/projects/p/envvars/prod/{variable}", "write", {"value": "a"}, one=True),
        Row("DELETE", "v1/projects/p/envvars/prod/{variable}", "write", one=True),
    ],
    "endpoint-list": [
        Row("GET", "v1/webhooks/endpoints", "read"),
        Row("POST", "v1/webhooks/endpoints", "write", {"name": "own"}),
    ],
    "endpoint": [
        Row("GET", "v1/webhooks/endpoints/{endpoint}", "read", one=True),
        Row("PUT", "v1/webhooks/endpoints/{endpoint}", "write", {"tolerance": 60}, one=True),
        Row("DELETE", "v1/webhooks/endpoints/{endpoint}", "write", one=True),
    ],
    "endpoint-enable": [Row("POST", "v1/webhooks/endpoints/{endpoint}/enable", "write", one=True)],
    "endpoint-disable": [Row("POST", "v1/webhooks/endpoints/{endpoint}/disable", "write", one=True)],
    "endpoint-rotate": [Row("POST", "v1/webhooks/endpoints/{endpoint}/rotate-secret", "write", one=True)],
    "delivery-list": [Row("GET", "v1/webhooks/deliveries", "read")],
    "delivery": [Row("GET", "v1/webhooks/deliveries/{delivery}", "read", one=True)],
    "delivery-replay": [Row("POST", "v1/webhooks/deliveries/{delivery}/replay", "write", one=True)],
    "destination-list": [
        Row("GET", "v1/webhooks/destinations", "read"),
        Row("POST", "v1/webhooks/destinations", "write", {"name": "own", "url": "https://example.com/"}),
    ],
    "destination": [
        Row("GET", "v1/webhooks/destinations/{destination}", "read", one=True),
        Row("PUT", "v1/webhooks/destinations/{destination}", "write", {"wants": ["run.failed"]}, one=True),
        Row("DELETE", "v1/webhooks/destinations/{destination}", "write", one=True),
    ],
    "destination-enable": [Row("POST", "v1/webhooks/destinations/{destination}/enable", "write", one=True)],
    "destination-disable": [Row("POST", "v1/webhooks/destinations/{destination}/disable", "write", one=True)],
    "destination-rotate": [Row("POST", "v1/webhooks/destinations/{destination}/rotate-secret", "write", one=True)],
    "notice-list": [Row("GET", "v1/webhooks/notices", "read")],
    "notice-retry": [Row("POST", "v1/webhooks/notices/{notice}/retry", "write", one=True)],
    "project-runs": [Row("GET", "v1/projects/p/runs", "read")],
    "event-list": [Row("POST", "v1/events", "write", {"name": "a"})],
    "event": [Row("GET", "v1/events/{event}", "read", one=True)],
    "event-cancel": [Row("POST", "v1/events/{event}/cancel", "write", one=True)],
    "run-list": [Row("GET", "v1/runs", "read")],
    "run": [Row("GET", "v3/runs/{run}", "read", one=True)],
    "run-result": [Row("GET", "v1/runs/{run}/result", "read", one=True)],
    "run-events": [Row("GET", "v1/runs/{run}/events", "read", one=True)],
    "run-trace": [Row("GET", "v1/runs/{run}/trace", "read", one=True)],
    "run-span": [Row("GET", "v1/runs/{run}/spans/attempt_1", "read", one=True)],
    "run-cancel": [Row("POST", "v2/runs/{run}/cancel", "write", one=True)],
    "run-retry": [Row("POST", "v1/runs/{run}/retry", "write", one=True)],
    "run-replay": [Row("POST", "v1/runs/{run}/replay", "write", one=True)],
    "run-reschedule": [Row("POST", "v1/runs/{run}/reschedule", "write", {"delay": "1h"}, one=True)],
    "run-tags": [Row("POST", "v1/runs/{run}/tags", "write", {"tags": ["x"]}, one=True)],
    "run-metadata": [
        Row("GET", "v1/runs/{run}/metadata", "read", one=True),
        Row("PUT", "v1/runs/{run}/metadata", "write", {"metadata": {"x": 1}}, one=True),
    ],
}
REACH_NOTHING = ("v3/batches", "v2/packets/a/b.json")
"""To announce a batch or to make room for a payload reaches no row; what uses them asks for each task."""
ALL = [row for rows in ROWS.values() for row in rows]
CANARY_NAME = "CANARY_9B1D"
VERSION = "prod-only.1"
NAME = "prod-only"
"""A refusal names what was asked for by name."""
KINDS = "runs tasks tags batch waitpoints queues events schedules deployments envvars webhooks deliveries".split()


def routes() -> Iterator[URLPattern]:
    yield from urls.urlpatterns
    yield from rooturls.urlpatterns


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


@dataclass(frozen=True)
class Place:
    """A row of each kind in production, which the callers of these tests have no business with."""

    names: dict[str, str]

    def call(self, row: Row, key: str | None, *, named: str = "prod") -> tuple[int, str]:
        """The answer. Each request names an environment: personal tokens need one, and to keys it is of no use."""
        headers = {"HTTP_X_TRIGGER_BRANCH": named, **({} if key is None else {"HTTP_AUTHORIZATION": f"Bearer {key}"})}
        kind = "application/x-ndjson" if row.path.endswith("/items") else "application/json"
        text = "" if row.body is None else json.dumps(row.body)
        for name, value in self.names.items():
            text = text.replace(f"{{{name}}}", value)
        body = text.encode()
        answer = client().generic(row.method, self.address(row), body, content_type=kind, **headers)
        return answer.status_code, answer.content.decode()

    def address(self, row: Row) -> str:
        """Where the route is."""
        path = row.path.format(**self.names)
        return path if path.startswith("/") else f"/api/{path}"


@pytest.fixture
def place() -> Place:
    prod = environments.by_slug("prod")
    fields = {"tags": [CANARY], "metadata": {CANARY: 1}, "idempotency_key": "secret-key"}
    run = make_run(Status.WAITING, environment_id=prod, queue=CANARY, **fields)
    batch = Batch.objects.create(environment_id=prod, run_count=1, idempotency_key=CANARY)
    options = {"tags": [CANARY], "idempotency_key": None, "idempotency_ttl": tokens.KEY_TTL, "actor": ""}
    token = tokens.issue(prod, None, **options)
    event = events.emit(CANARY, f'"{CANARY}"', environment=prod)
    schedule = Schedule.objects.create(
        environment_id=prod, task=CANARY, cron="0 9 * * *", deduplication_key=CANARY, external_id=CANARY
    )
    version = deployments.register(prod, deployments.Build(version=VERSION))
    envvars.put(prod, CANARY_NAME, CANARY)
    action = bulk.start(BulkVerb.CANCEL, environment=prod, actor=CANARY, name=CANARY, selected=[run.id])
    packet = packets.reserve(prod, actor="")
    packets.store(packet, prod, content_type="application/json", body=CANARY.encode())
    endpoint = webhooks.create("prod", NAME, preset="github").endpoint
    delivery = Delivery.objects.create(
        environment_id=prod, endpoint=endpoint, verdict=Verdict.ACCEPTED, type=CANARY, body=b"{}", size=2
    )
    destination = destinations.create("prod", NAME, "https://example.com/").destination
    notice = Notice.objects.create(environment_id=prod, destination=destination, kind="test", about=run.id)
    return Place(
        {
            "endpoint": NAME,
            "destination": NAME,
            "delivery": f"delivery_{delivery.pk}",
            "notice": f"notice_{notice.pk}",
            "packet": f"packet_{packet}",
            "run": f"run_{run.id}",
            "batch": f"batch_{batch.id}",
            "token": f"waitpoint_{token.id}",
            "event": f"event_{event.id}",
            "queue": f"queue_{queues.identify(prod, CANARY)}",
            "schedule": f"sched_{schedule.pk}",
            "deployment": f"deployment_{version.pk}",
            "version": VERSION,
            "variable": CANARY_NAME,
            "bulk": f"bulk_{action.pk}",
        }
    )


TABLES = (Run, Batch, Wait, Event, Queue, Schedule, Deployment, EnvVar, BulkAction)
TABLES += (Endpoint, Destination, Delivery, Notice)
SNAPSHOT = " UNION ALL ".join(
    f"SELECT '{name}', md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t WHERE environment_id = %(prod)s"
    for name in (table._meta.db_table for table in TABLES)
)


def snapshot() -> list[object]:
    """All of production, to see that nothing was written."""
    with connection.cursor() as cursor:
        cursor.execute(SNAPSHOT, {"prod": environments.by_slug("prod")})
        return list(cursor.fetchall())


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
