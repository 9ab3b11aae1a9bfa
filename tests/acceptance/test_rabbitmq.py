"""RabbitMQ as the broker, a real one of the tests' own, with results in Redis: the drop-in list in short."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import pytest
from celery import chain, chord, group

from tests.acceptance import app as acceptance
from tests.acceptance import rabbit
from tests.acceptance.cluster import Cluster, Worker, wait_until
from tests.acceptance.ledger import fresh, notes, open_gate
from tests.acceptance.nested import parent_of
from tests.acceptance.runs import end_leases, make_due, status
from tests.acceptance.tasks import (
    add,
    becomes,
    boom,
    echo,
    for_event,
    kinds,
    late,
    plain_add,
    plain_note,
    retries_by_hand,
    stays,
    steps_on,
    total,
    who,
)
from tests.acceptance.trouble import gated, gated_late
from triggerapp.models import Step
from workers import events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def beside(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster as it is, but its messages go through RabbitMQ."""
    script = rabbit.find()
    if script is None:
        pytest.skip("rabbitmq-server is not installed")
    with rabbit.running(script, tmp_path_factory.mktemp("rabbitmq")) as url:
        cluster = copy(cluster)
        cluster.broker_url = url
        yield cluster


@pytest.fixture(autouse=True)
def _producing(beside: Cluster, in_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests' own messages too."""
    monkeypatch.setenv("CELERY_BROKER_URL", beside.broker_url)
    _choose_pools_anew()
    yield
    monkeypatch.undo()
    _choose_pools_anew()


def _choose_pools_anew() -> None:
    """Kombu has a pool for each address, the app remembers its first."""
    acceptance.app._pool = None
    acceptance.app.amqp._producer_pool = None


@pytest.fixture(params=["prefork", "threads"])
def mine(request: pytest.FixtureRequest, beside: Cluster) -> Iterator[Worker]:
    # Tickers of the cluster's other workers wake its runs too, by the other broker: what they sent is sent again.
    with beside.worker(request.param, ACCEPTANCE_RESEND="3") as worker:
        acceptance.route_to(worker.queue)
        yield worker


def test_the_list_in_short(mine: Worker):
    tag = fresh()
    waits = for_event.delay(tag)
    expected = [
        (plain_add.delay(1, 1), 2),
        (echo.apply_async(("later",), countdown=0.3), "later"),
        (chain(add.s(1, 1), plain_add.s(2), add.s(3)).delay(), 7),
        (group(add.s(n, n) for n in range(3)).delay(), [0, 2, 4]),
        (chord([add.s(1, 1), plain_add.s(2, 2)], total.s(more=1)).delay(), 7),
        (retries_by_hand.delay(fresh()), [2]),
        (becomes.delay(chain(add.s(3, 3), add.s(1))), 7),
        (parent_of.delay(fresh(), 0.1), None),
        (kinds.apply_async(({1},), serializer="pickle", compression="gzip"), ["set", "1"]),
        (who.apply_async((fresh(),), priority=3, headers={"custom": "kept"}, task_id=tag), tag),
    ]
    for result, value in expected:
        found = result.get(timeout=120)
        assert value is None or found == value
    with pytest.raises(ValueError, match="boom"):
        boom.delay().get(timeout=120)
    wait_until(lambda: status(waits) == "waiting")
    events.send("go", {"tag": tag, "value": "event"})
    assert waits.get(timeout=120) == "event"


def test_revoke_of_a_waiting_run(mine: Worker):
    result = stays.delay(tag := fresh())
    wait_until(lambda: status(result) == "waiting")
    result.revoke()
    assert status(result) == "canceled" and result.state == "REVOKED"
    make_due(result)
    assert add.delay(1, 1).get(timeout=120) == 2
    assert notes(tag) == ["before"]


def test_kill_9_of_a_worker(mine: Worker):
    """One run waits, one runs, one runs whose message RabbitMQ delivers again at once."""
    asleep = late.delay(tag1 := fresh(), pause=3600)
    running = gated.apply_async((tag2 := fresh(),), link=plain_note.s(f"{tag2}:link"))
    wait_until(lambda: status(asleep) == "waiting")
    again = gated_late.delay(tag3 := fresh())
    for result in (running, again):
        wait_until(lambda result=result: Step.objects.filter(run__task_id=result.id).exists())
    mine.kill9()
    end_leases(mine)
    make_due(asleep)
    open_gate(tag2)
    open_gate(tag3)
    mine.restart()
    assert [running.get(timeout=120), again.get(timeout=120), asleep.get(timeout=120)] == [tag2, tag3, "late"]
    assert notes(tag1) == ["before", "after"]
    assert notes(tag2) == notes(tag3) == ["before", "through", "after"]
    assert wait_until(lambda: notes(f"{tag2}:link")) == [tag2]


def test_a_warm_shutdown_gives_its_runs_away(mine: Worker):
    result = steps_on.delay(tag := fresh(), 100, seconds=0.5)
    wait_until(lambda: len(notes(tag)) >= 2)
    mine.stop()
    assert len(notes(tag)) < 80
    open_gate(tag)
    mine.restart()
    assert result.get(timeout=120) == 100
    assert notes(tag) == list(range(100))
