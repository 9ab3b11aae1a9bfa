"""A row of each kind in production, for callers who have no business with any; and how a route is asked for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import uuid4

from django.db import connection

from tests.api.client import client
from tests.api.everyroute import CANARY, Row
from tests.factories import make_run
from triggerapp.engine import (
    bulk,
    deployments,
    destinations,
    environments,
    envvars,
    events,
    packets,
    queues,
    tokens,
    webhooks,
)
from triggerapp.models import (
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

VARIABLE = "CANARY_9B1D"
VERSION = "prod-only.1"
NAME = "prod-only"
"""A refusal names what was asked for by name."""


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


def furnish() -> Place:
    """A row of each kind, by the names that the routes have for them."""
    prod = environments.by_slug("prod")
    return Place({**_run(prod), **_around_runs(prod), **_in_operation(prod), **_webhooks(prod)})


def _run(prod: int) -> dict[str, str]:
    fields = {"tags": [CANARY], "metadata": {CANARY: 1}, "idempotency_key": "secret-key"}
    run = make_run(Status.WAITING, environment_id=prod, queue=CANARY, **fields)
    action = bulk.start(BulkVerb.CANCEL, environment=prod, actor=CANARY, name=CANARY, selected=[run.id])
    return {"run": f"run_{run.id}", "bulk": f"bulk_{action.pk}", "queue": f"queue_{queues.identify(prod, CANARY)}"}


def _around_runs(prod: int) -> dict[str, str]:
    batch = Batch.objects.create(environment_id=prod, run_count=1, idempotency_key=CANARY)
    options = {"tags": [CANARY], "idempotency_key": None, "idempotency_ttl": tokens.KEY_TTL, "actor": ""}
    token = tokens.issue(prod, None, **options)
    event = events.emit(CANARY, f'"{CANARY}"', environment=prod)
    packet = packets.reserve(prod, actor="")
    packets.store(packet, prod, content_type="application/json", body=CANARY.encode())
    return {
        "batch": f"batch_{batch.id}",
        "token": f"waitpoint_{token.id}",
        "event": f"event_{event.id}",
        "packet": f"packet_{packet}",
    }


def _in_operation(prod: int) -> dict[str, str]:
    schedule = Schedule.objects.create(
        environment_id=prod, task=CANARY, cron="0 9 * * *", deduplication_key=CANARY, external_id=CANARY
    )
    deployment = deployments.register(prod, deployments.Build(version=VERSION))
    envvars.put(prod, VARIABLE, CANARY)
    return {
        "schedule": f"sched_{schedule.pk}",
        "deployment": f"deployment_{deployment.pk}",
        "version": VERSION,
        "variable": VARIABLE,
    }


def _webhooks(prod: int) -> dict[str, str]:
    endpoint = webhooks.create("prod", NAME, preset="github").endpoint
    delivery = Delivery.objects.create(
        environment_id=prod, endpoint=endpoint, verdict=Verdict.ACCEPTED, type=CANARY, body=b"{}", size=2
    )
    destination = destinations.create("prod", NAME, "https://example.com/").destination
    notice = Notice.objects.create(environment_id=prod, destination=destination, kind="test", about=uuid4())
    return {
        "endpoint": NAME,
        "delivery": f"delivery_{delivery.pk}",
        "destination": NAME,
        "notice": f"notice_{notice.pk}",
    }


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
