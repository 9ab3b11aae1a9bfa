"""A replay from a step: what was done before it is taken from the first run's journal, the rest is done anew."""

from __future__ import annotations

import json

import pytest

from tests.inprocess import durable
from triggerapp.engine import events, tokens, verbs
from triggerapp.errors import BadInput, IllegalMove
from triggerapp.models import AuditEntry, Run, Status, Step, Wait
from workers import RetryPolicy, rollback, step, wait
from workers.handle import RunHandle

ONCE = RetryPolicy(max_attempts=1)


class Shop:
    """Writes down what was done."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.broken = ""

    def do(self, what: str) -> str:
        self.did.append(what)
        if what == self.broken:
            raise ValueError(f"{what} is broken")
        return f"{what} {len(self.did)}"

    def again(self) -> list[str]:
        """What was done since this was asked last."""
        did, self.did = self.did, []
        return did


@pytest.fixture
def shop() -> Shop:
    return Shop()


def replayed(worker, handle, step_key, **options):
    """The handle of a replay from a step, at its end."""
    fresh = handle.replay(from_step=step_key, **options)
    worker.until(fresh)
    return fresh


def carried(handle):
    """The steps of a run that it did not do itself."""
    return list(Step.objects.filter(run=handle.id, attempt=0).order_by("id").values_list("key", flat=True))


def test_what_was_done_before_the_step_is_not_done_again_and_the_rest_is(worker, shop):
    @durable
    def purchase():
        return [step(shop.do, what, key=what) for what in ("reserve", "charge", "mail")]

    first = purchase.trigger()
    worker.until(first)
    assert shop.again() == ["reserve", "charge", "mail"]
    again = replayed(worker, first, "charge")
    assert shop.again() == ["charge", "mail"]
    assert again.get() == ["reserve 1", "charge 1", "mail 2"]
    assert carried(again) == ["reserve"]
    assert again.refresh().replay_of_id == first.refresh().id
    assert AuditEntry.objects.get(action="run.replay").after == {"run": again.id, "from_step": "charge"}


def test_a_failed_run_is_replayed_from_the_step_that_failed(worker, shop):
    shop.broken = "charge"

    @durable(retry=ONCE)
    def purchase():
        return [step(shop.do, what, key=what) for what in ("reserve", "charge")]

    first = purchase.trigger()
    with pytest.raises(ValueError, match="charge is broken"):
        worker.until(first)
    shop.broken = ""
    again = replayed(worker, first, "charge")
    assert shop.again() == ["reserve", "charge", "charge"]
    assert first.status == "FAILED"
    assert again.status == "COMPLETED"


def test_waits_that_were_over_are_answered_and_later_ones_are_waited_for_again(worker, shop):
    @durable
    def purchase():
        paid = wait.for_event("paid").payload
        wait.sleep(days=1)
        step(shop.do, "ship", key="ship")
        wait.sleep(days=3)
        return paid

    first = purchase.trigger()
    worker.work()
    events.emit("paid", json.dumps(7))
    assert worker.until(first) == 7
    again = replayed(worker, first, "ship")
    assert again.get() == 7
    assert shop.again() == ["ship", "ship"]
    kept, own = Wait.objects.filter(run=first.id), Wait.objects.filter(run=again.id)
    assert (
        list(own.order_by("opened_at").values_list("key", "event"))[:2]
        == list(kept.order_by("opened_at").values_list("key", "event"))[:2]
    )
    assert own.get(key="sleep#2").opened_at > kept.get(key="sleep#2").opened_at


def test_what_lies_within_the_step_is_done_again(worker, shop):
    @durable
    def purchase():
        step(shop.do, "reserve", key="reserve")
        return step(both, key="both")

    def both():
        return [step(shop.do, what, key=what) for what in ("left", "right")]

    first = purchase.trigger()
    worker.until(first)
    again = replayed(worker, first, "both")
    assert shop.again() == ["reserve", "left", "right", "left", "right"]
    assert carried(again) == ["reserve"]
    replayed(worker, first, "both/right")
    assert shop.again() == ["right"]


def test_runs_that_were_triggered_and_events_that_were_sent_before_are_not_again(worker, shop):
    @durable
    def mail(what):
        shop.do(what)

    @durable
    def purchase():
        handle = mail.trigger("early")
        events_sent = step(shop.do, "ship", key="ship")
        mail.trigger("late")
        return [handle.id, events_sent]

    first = purchase.trigger()
    worker.until(first)
    worker.work()
    assert sorted(shop.again()) == ["early", "late", "ship"]
    again = replayed(worker, first, "ship")
    worker.work()
    assert sorted(shop.again()) == ["late", "ship"]
    assert again.get()[0] == first.get()[0]


def test_steps_that_were_carried_over_are_not_compared_with_their_arguments(worker, shop):
    @durable
    def purchase(ticket):
        reserved = step(shop.do, ticket, key="reserve")
        return [reserved, step(shop.do, f"mail {ticket}", key="mail")]

    first = purchase.trigger("a")
    worker.until(first)
    fresh = verbs.replay(first.refresh().id, arguments=(["b"], {}), from_step="mail")
    again = RunHandle(id=str(fresh.run_id), task_id=fresh.task_id)
    assert worker.until(again) == ["a 1", "mail b 3"]


def test_a_replay_that_fails_undoes_only_what_it_did_itself(worker, shop):
    @durable(retry=ONCE)
    def purchase():
        step(shop.do, "reserve", key="reserve", rollback=lambda _: shop.do("release"))
        rollback(shop.do, "refund")
        wait.sleep(1)
        step(shop.do, "pack", key="pack", rollback=lambda _: shop.do("unpack"))
        rollback(shop.do, "call back")
        step(shop.do, "mail", key="mail")

    first = purchase.trigger()
    worker.until(first)
    shop.broken = "mail"
    shop.again()
    again = first.replay(from_step="pack")
    with pytest.raises(ValueError, match="mail is broken"):
        worker.until(again)
    assert shop.again() == ["pack", "mail", "call back", "unpack"]


def test_a_token_that_was_completed_is_answered_and_an_open_one_is_made_anew(worker, shop):
    @durable
    def purchase():
        token = wait.create_token()
        first = token.wait()
        other = wait.create_token()
        step(shop.do, "ask", key="ask")
        return [first, other.wait()]

    first = purchase.trigger()
    worker.work()
    for value in ("1", "2"):
        (open_one,) = Wait.objects.filter(run=first.id, status="pending")
        tokens.complete(open_one.id, value)
        worker.work()
    assert first.get() == [1, 2]
    again = first.replay(from_step="ask")
    worker.work()
    (open_one,) = Wait.objects.filter(run=again.id, status="pending")
    tokens.complete(open_one.id, "3")
    worker.work()
    assert again.get() == [1, 3]
    assert shop.again() == ["ask", "ask"]


def test_a_replay_can_be_replayed_from_a_step_and_retried(worker, shop):
    @durable(retry=ONCE)
    def purchase():
        return [step(shop.do, what, key=what) for what in ("reserve", "charge", "mail")]

    first = purchase.trigger()
    worker.until(first)
    second = replayed(worker, first, "charge")
    shop.broken = "mail"
    third = second.replay(from_step="mail")
    with pytest.raises(ValueError, match="mail is broken"):
        worker.until(third)
    assert carried(third) == ["reserve", "charge"]
    shop.again()
    shop.broken = ""
    third.retry()
    assert worker.until(third)[:2] == second.get()[:2]
    assert shop.again() == ["mail"]


def test_one_that_was_rolled_back_is_replayed_as_a_whole_only(worker, shop):
    shop.broken = "charge"

    @durable(retry=ONCE)
    def purchase():
        step(shop.do, "reserve", key="reserve", rollback=lambda _: shop.do("release"))
        step(shop.do, "charge", key="charge")

    first = purchase.trigger()
    with pytest.raises(ValueError, match="charge is broken"):
        worker.until(first)
    with pytest.raises(IllegalMove, match="was rolled back"):
        first.replay(from_step="charge")
    assert Run.objects.count() == 1


@pytest.mark.parametrize("key", ["nothing", "", "\0", "x" * 300])
def test_a_step_that_is_not_there_is_refused_with_those_that_are(worker, shop, key):
    @durable
    def purchase():
        return step(shop.do, "reserve", key="reserve")

    first = purchase.trigger()
    worker.until(first)
    with pytest.raises(BadInput) as refused:
        first.replay(from_step=key)
    assert key != "nothing" or "it has reserve" in str(refused.value)
    assert Run.objects.filter(status=Status.COMPLETED).count() == Run.objects.count() == 1
