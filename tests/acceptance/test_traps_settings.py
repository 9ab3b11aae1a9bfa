"""Traps that only a setting can avoid: a system check names each, with the way out (see `test_traps_messages`)."""

from __future__ import annotations

import pytest
from celery import chord

from tests.acceptance.app import app
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh
from tests.acceptance.tasks import add, for_event, total
from triggerapp.checks import celery_warnings
from triggerapp.models import Run
from workers import events


def warnings_with(**changes: object) -> dict[str | None, str | None]:
    conf = {**dict(app.conf), **changes}
    return {message.id: message.hint for message in celery_warnings(conf)}


def test_a_chords_counters_outlive_the_longest_wait(on: Worker):
    """Trap 6: after `result_expires` a waiting header would have lost its chord, silently."""
    result = chord([for_event.s(tag := fresh()), add.s(1, 1)], total.s()).delay()
    first = result.parent.results[0]
    wait_until(lambda: Run.objects.filter(task_id=first.id, status="waiting").exists())
    client = app.backend.client
    group = result.parent.id
    keys = [key for key in client.keys("*") if group.encode() in key and b"meta" in key]
    assert keys and all(client.ttl(key) == -1 for key in keys if not key.endswith(group.encode()))
    events.send("go", {"tag": tag, "value": 1})
    assert result.get(timeout=120) == 3


def test_a_check_warns_where_they_do_not():
    """Trap 6."""
    assert "triggerapp.W001" not in warnings_with(result_chord_expires=0)
    assert "RESULT_CHORD_EXPIRES" in str(warnings_with(result_chord_expires=None)["triggerapp.W001"])


@pytest.mark.parametrize("backend", ["db+postgresql://host/db", "file:///var/results"])
def test_a_check_warns_of_backends_that_poll_for_a_chord(backend: str):
    """Trap 25: `chord_unlock` once a second, as long as the longest wait of a header."""
    hint = warnings_with(result_backend=backend)["triggerapp.W004"]
    assert "RESULT_CHORD_RETRY_INTERVAL" in str(hint)
    assert "triggerapp.W004" not in warnings_with(result_backend=backend, result_chord_retry_interval=60)


def test_a_check_warns_of_results_by_message():
    """Trap 31: the client's reply queue ends with the client, and there are no chords."""
    assert "redis" in str(warnings_with(result_backend="rpc://")["triggerapp.W005"]).lower()
    assert not {"triggerapp.W004", "triggerapp.W005"} & warnings_with().keys()
