"""Every route of the API, with what it takes and what it asks for: a new one without a row here fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import URLPattern

from triggerapp.api import rooturls, urls

CANARY = "canary-9b1d"
"""The name of whatever nobody may learn of."""
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
ALL = [row for rows in ROWS.values() for row in rows]


def routes() -> Iterator[URLPattern]:
    yield from urls.urlpatterns
    yield from rooturls.urlpatterns
