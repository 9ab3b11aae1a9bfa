"""Figures for Prometheus: right, for the key's environment only, and found without reading a table of runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from tests import plans
from tests.factories import make_run, make_wait, make_worker
from triggerapp.clock import now
from triggerapp.engine import environments, keys, queues
from triggerapp.models import Checkpoint, Run, Status

pytestmark = pytest.mark.usefixtures("database")


def scrape(key: str, **headers: str) -> tuple[int, str]:
    answer = Client(raise_request_exception=False).get("/metrics", HTTP_AUTHORIZATION=f"Bearer {key}", **headers)
    return answer.status_code, answer.content.decode()


def figures(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("triggerapp_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def key() -> str:
    return keys.create("dev", "prometheus", scopes=["read:metrics"]).text


def test_what_lives_what_ended_and_what_is_late(key):
    for status in (Status.QUEUED, Status.QUEUED, Status.RUNNING, Status.COMPLETED, Status.FAILED):
        make_run(status)
    Run.objects.filter(status=Status.QUEUED).update(sent_at=now() - timedelta(minutes=2))
    waiting = make_run(Status.WAITING, queue="slow")
    make_wait(waiting, expires_at=now() - timedelta(minutes=1))
    make_run(Status.WAITING, environment_id=environments.by_slug("prod"))
    make_worker()
    queues.set_paused(waiting.environment_id, "slow", paused=True)
    found = figures(scrape(key)[1])
    assert found["runs", "dev", "tests", "queued"] == 2
    assert found["runs", "dev", "slow", "waiting"] == 1
    assert found["runs_ended_last_minute", "dev", "failed"] == 1
    assert (found["queue_paused", "dev", "slow"], found["queue_paused", "dev", "tests"]) == (1, 0)
    assert 60 <= found["ticker_lag_seconds", "dev"] < 120
    assert found["queued_age_seconds", "dev"] >= 120
    assert found["workers", "dev"] >= 1
    assert not any("prod" in name for name in found)


def test_images_are_counted_while_their_runs_wait(key):
    fields = {"sequence": 1, "lease": 1, "attempt": 1, "crashes": 0, "host": "h", "pid": 1, "pipe": 1, "image_size": 9}
    for status in (Status.WAITING, Status.COMPLETED):
        took = timedelta(seconds=2)
        Checkpoint.objects.create(id=uuid4(), run=make_run(status), size=250_000, restores=1, took=took, **fields)
    found = figures(scrape(key)[1])
    assert (found["checkpoints", "dev"], found["checkpoint_bytes", "dev"]) == (1, 250_000)
    assert (found["checkpoint_restores", "dev"], found["checkpoint_slowest_seconds", "dev"]) == (1, 2)


def test_nothing_is_late_where_nothing_is(key):
    found = figures(scrape(key)[1])
    assert (found["ticker_lag_seconds", "dev"], found["checkpoints", "dev"]) == (0, 0)


def test_without_the_scope_there_are_no_figures(key):
    assert scrape(keys.create("dev", "other", scopes=["read:runs"]).text)[0] == 403
    assert scrape("tr_dev_sk_" + "x" * 24)[0] == 401
    assert Client().get("/metrics").status_code == 401


def test_prometheus_may_ask_for_any_format(key):
    assert scrape(key, HTTP_ACCEPT="application/openmetrics-text;version=1.0.0")[0] == 200


@pytest.mark.slow
def test_no_figure_reads_all_of_very_many_runs(key):
    plans.filled()
    with plans.noted() as made:
        scrape(key)
    plans.assert_none_reads_all(made)
