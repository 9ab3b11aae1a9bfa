"""Figures for Prometheus, of one environment: what lives, what waits, what is late.

Nothing here reads a whole table of runs: what lives is found by indexes over live runs alone, what has ended by the one
over the moments of the last minute. It needs a key like everything else: `authorization` in the scrape configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from django.http import HttpResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from triggerapp.api.http import Access, View
from triggerapp.engine import queues, sql
from triggerapp.models import FINAL, Queue

_ENDED = """
SELECT status, count(*) AS n FROM triggerapp_run WHERE environment_id = %(environment)s
  AND finished_at > now() - interval '1 minute' GROUP BY status
"""
_LATE = """
SELECT
  GREATEST(0, EXTRACT(epoch FROM now() - LEAST(
    (SELECT min(due_at) FROM triggerapp_run WHERE environment_id = %(environment)s AND status = 'pending'
      AND started_at IS NULL AND due_at IS NOT NULL),
    (SELECT min(expires_at) FROM triggerapp_wait WHERE environment_id = %(environment)s AND status = 'pending'
      AND expires_at IS NOT NULL)))) AS lag,
  GREATEST(0, EXTRACT(epoch FROM now() - (SELECT min(sent_at) FROM triggerapp_run
    WHERE environment_id = %(environment)s AND status = 'queued'))) AS oldest,
  (SELECT count(*) FROM triggerapp_worker WHERE expires_at > now()) AS workers
"""
_IMAGES = """
SELECT count(*) AS n, COALESCE(sum(c.size), 0) AS size, COALESCE(sum(c.restores), 0) AS restores,
  COALESCE(EXTRACT(epoch FROM max(c.took)), 0) AS slowest
FROM triggerapp_checkpoint c JOIN triggerapp_run r ON r.id = c.run_id
WHERE r.environment_id = %(environment)s AND r.status = 'waiting'
"""


class Figures(Collector):
    """One look at one environment."""

    def __init__(self, environment: int, slug: str) -> None:
        self._environment, self._slug = environment, slug

    def collect(self) -> Iterator[Metric]:
        """All figures, each with the environment as its first label."""
        yield from self._runs()
        yield from self._lateness()
        yield from self._checkpoints()

    def _runs(self) -> Iterator[Metric]:
        counts = queues.live(self._environment)
        named = {queue.pk: queue for queue in Queue.objects.filter(environment=self._environment).order_by("name")}
        live = self._family("runs", "Runs that have not ended, by status and queue.", "status", "queue")
        for row in counts:
            if row["queue_id"] in named:
                live.add_metric([self._slug, row["status"], named[row["queue_id"]].name], row["n"])
        yield live
        paused = self._family("queue_paused", "1 if no run of the queue is started.", "queue")
        for queue in named.values():
            paused.add_metric([self._slug, queue.name], queue.paused)
        yield paused
        over = {row["status"]: row["n"] for row in self._ask(_ENDED)}
        ended = self._family("runs_ended_last_minute", "Runs that ended within the last minute, by status.", "status")
        for status in FINAL:
            ended.add_metric([self._slug, status.value], over.get(status.value, 0))
        yield ended

    def _lateness(self) -> Iterator[Metric]:
        (row,) = self._ask(_LATE)
        yield self._one("ticker_lag_seconds", "How long the oldest due wait or delayed run is overdue.", row["lag"])
        yield self._one("queued_age_seconds", "How long the oldest queued run waits to be claimed.", row["oldest"])
        yield self._one("workers", "Workers, of all environments, that beat.", row["workers"])

    def _checkpoints(self) -> Iterator[Metric]:
        (row,) = self._ask(_IMAGES)
        yield self._one("checkpoints", "Images of waiting runs.", row["n"])
        yield self._one("checkpoint_bytes", "What these images take in the store.", row["size"])
        yield self._one("checkpoint_restores", "How often these images were taken to be restored.", row["restores"])
        yield self._one("checkpoint_slowest_seconds", "The longest that one of these took to be made.", row["slowest"])

    def _ask(self, statement: str) -> Sequence[sql.Row]:
        return sql.rows(statement, {"environment": self._environment})

    def _family(self, name: str, help: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"triggerapp_{name}", help, labels=["environment", *labels])

    def _one(self, name: str, help: str, value: object) -> Metric:
        family = self._family(name, help)
        family.add_metric([self._slug], float(str(value or 0)))
        return family


class Metrics(View):
    """The figures of the key's environment."""

    access: ClassVar[Access] = {"GET": ("read", "metrics")}

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """Prometheus asks for its own formats, of which this is the oldest."""
        return super().perform_content_negotiation(request, force=True)

    def get(self, request: Request) -> HttpResponse:
        """The figures as they are now, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(Figures(self.principal.environment, self.principal.slug))
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
