"""Producers: serializers are kept, and those that know nothing of us are adopted by the worker."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from typing import Any

import pytest
from celery.result import AsyncResult

from tests.acceptance.app import app
from tests.acceptance.cluster import ROOT, Cluster, Worker, wait_until
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.tasks import add, echo, kinds
from triggerapp.engine import dispatch
from triggerapp.models import Run


@pytest.mark.parametrize(
    ("serializer", "value", "seen"),
    [
        ("json", [1, 2], ["list", "2"]),
        ("pickle", {1, 2, 3}, ["set", "3"]),
        ("yaml", {"a": datetime.date(2026, 1, 1)}, ["dict", "1"]),
        ("msgpack", [1, 2], ["list", "2"]),
    ],
)
def test_a_message_keeps_its_serializer(on: Worker, serializer: str, value: Any, seen: list[str]):
    """Trap 4: a task that came in pickle would be sent again in JSON."""
    if serializer == "msgpack":
        pytest.importorskip("msgpack")
    result = kinds.apply_async((value,), serializer=serializer, compression="gzip")
    assert result.get(timeout=20) == seen
    run = Run.objects.get(task_id=result.id)
    message = dispatch.Message.load(run.message, bytes(run.payload))
    assert dispatch.serializer_of(message) == serializer
    assert message.compression == "gzip"


def test_a_result_that_the_result_serializer_cannot_take_fails_the_run(on: Worker):
    result = echo.apply_async(({1, 2},), serializer="pickle")
    with pytest.raises(Exception, match="cannot be encoded as json"):
        result.get(timeout=20)
    assert Run.objects.get(task_id=result.id).status == "failed"


def test_a_producer_that_knows_nothing_of_us(on: Worker, cluster: Cluster):
    """Every message of a plain Celery process becomes a run, under the id that the producer knows."""
    tag = fresh()
    script = ROOT / "tests" / "acceptance" / "plain_producer.py"
    command = [sys.executable, "-P", str(script), cluster.broker_url, cluster.result_url, on.queue, tag]
    environment = {"PATH": "/usr/bin:/bin", "CELERY_BROKER_URL": cluster.broker_url}
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ids = json.loads(done.stdout)
    results = {name: AsyncResult(task_id, app=app).get(timeout=20) for name, task_id in ids.items()}
    assert results == {
        "once": 3,
        "pickled": ["set", "3"],
        "later": 4,
        "headers": ids["headers"],
        "chained": 7,
        "chorded": 6,
        "retried": [2],
        "replaced": 6,
        "killed": "done",
    }
    before, _, after = notes(tag)
    assert before == after and before["custom"] == "plain" and before["priority"] == 3
    assert notes(f"{tag}:retried") == ["step", "try 0", "try 1", "try 2"]
    assert Run.objects.filter(task_id__in=ids.values(), nesting=0, status="completed").count() == len(ids)


def test_a_frozen_signature_that_is_applied_twice_runs_twice(on: Worker):
    """Trap 2: the id of a run that is over, in a message without our header, is a new run."""
    task_id = fresh()
    for expected in (2, 4):
        app.send_task("tests.acceptance.tasks.add", (expected, 0), task_id=task_id, queue=on.queue)
        result = AsyncResult(task_id, app=app)
        ended = Run.objects.filter(task_id=task_id, status="completed")
        wait_until(lambda ended=ended, count=expected // 2: ended.count() == count)
    assert result.get(timeout=5) == 2  # Celery's backend never overwrites a success
    assert add.apply_async((1, 1)).get(timeout=20) == 2
