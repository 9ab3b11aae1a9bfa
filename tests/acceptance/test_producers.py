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
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.tasks import becomes, echo, kinds, noted
from tests.acceptance.trouble import gated
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
    result = kinds.apply_async((value,), serializer=serializer, compression="gzip")
    assert result.get(timeout=120) == seen
    run = Run.objects.get(task_id=result.id)
    message = dispatch.Message.load(run.message, bytes(run.payload))
    assert dispatch.serializer_of(message) == serializer
    assert message.compression == "gzip"


def test_a_result_that_the_result_serializer_cannot_take_fails_the_run(on: Worker):
    result = echo.apply_async(({1, 2},), serializer="pickle")
    with pytest.raises(Exception, match="cannot be encoded as json"):
        result.get(timeout=120)
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
    results = {name: AsyncResult(task_id, app=app).get(timeout=120) for name, task_id in ids.items()}
    assert results == {
        "once": 3,
        "pickled": ["set", "3"],
        "later": 4,
        "headers": ids["headers"],
        "chained": 7,
        "chorded": 6,
        "retried": [2],
        "replaced": 6,
        "mapped": [2, 4],
        "killed": "done",
    }
    before, *_, after = notes(tag)
    assert before == after and before["custom"] == "plain" and before["priority"] == 3
    assert notes(f"{tag}:retried") == ["step", "try 0", "try 1", "try 2"]
    completed = Run.objects.filter(task_id__in=ids.values(), nesting=0, status="completed")
    wait_until(lambda: completed.count() == len(ids))  # what is replaced ends while its replacement runs


def test_a_task_id_that_is_used_again_is_another_run(on: Worker):
    """Trap 2: a frozen signature may be applied twice, by us and by producers that know nothing of us."""
    task_id, tag = fresh(), fresh()

    def sent(count: int) -> None:
        ended = Run.objects.filter(task_id=task_id, status="completed")
        wait_until(lambda: ended.count() == count)

    noted.apply_async((1, tag), task_id=task_id)
    sent(1)
    noted.apply_async((2, tag), task_id=task_id)
    sent(2)
    app.send_task("tests.acceptance.tasks.noted", (3, tag), task_id=task_id)
    sent(3)
    becomes.apply_async((noted.s(4, tag),), task_id=task_id)  # and where it is replaced, that is one more
    sent(5)
    assert notes(tag) == [1, 2, 3, 4]


def test_a_task_id_in_use_is_the_same_run(on: Worker):
    task_id, tag = fresh(), fresh()
    results = [gated.apply_async((tag,), task_id=task_id) for _ in range(3)]
    open_gate(tag)
    assert [result.get(timeout=120) for result in results] == [tag] * 3
    assert notes(tag) == ["before", "through", "after"]
