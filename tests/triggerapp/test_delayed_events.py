"""An event that is to be delivered later is nobody's until then, and can be called off."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from tests.factories import for_event, fresh, make_run, make_waiting
from tests.inprocess import Worker, at_once, forward
from triggerapp.engine import environments, events, waits, wakes
from triggerapp.engine.waits import Resolution, Suspended
from triggerapp.errors import BadInput, IllegalMove, NotFound
from triggerapp.models import AuditEntry, Event, EventStatus, Status, WaitStatus
from workers import events as api

pytestmark = pytest.mark.usefixtures("database")

HOUR = timedelta(hours=1)


def send(deliver=HOUR, **fields) -> Event:
    return Event.objects.get(pk=events.emit("paid", json.dumps({"n": 1}), deliver=deliver, **fields).id)


def test_it_reaches_a_wait_when_its_time_has_come_and_not_before(worker: Worker):
    wait, event = make_waiting("paid"), send()
    worker.tick()
    assert (fresh(wait).status, fresh(event).status) == (WaitStatus.PENDING, EventStatus.SCHEDULED)
    forward(hours=1, seconds=1)
    events.deliver_due()
    assert (fresh(wait).event, fresh(event).status) == (event.id, EventStatus.DELIVERED)


def test_a_wait_that_looks_back_does_not_see_it_before_it_is_delivered():
    send()
    run = make_run(Status.RUNNING)
    assert isinstance(waits.suspend(run.id, for_event("paid"), lease=1), Suspended)


def test_a_wait_that_looks_back_counts_from_the_delivery():
    event = send(timedelta(days=2))
    forward(days=2, seconds=1)
    events.deliver_due()
    found = waits.suspend(make_run(Status.RUNNING).id, for_event("paid"), lease=1)
    assert isinstance(found, Resolution)
    assert found.event == event.id


def test_many_tickers_deliver_it_once():
    wait, event = make_waiting("paid"), send(timedelta(0))
    assert sum(at_once(*[events.deliver_due] * 6)) == 1
    assert fresh(wait).event == event.id


def test_one_that_cannot_be_delivered_holds_up_no_other(monkeypatch):
    bad, good, deliver = send(timedelta(0)), send(timedelta(0)), events._deliver

    def breaks(environment, name, event, payload):
        return 1 / 0 if event == bad.id else deliver(environment, name, event, payload)

    monkeypatch.setattr(events, "_deliver", breaks)
    assert events.deliver_due() == 1
    assert [fresh(event).status for event in (bad, good)] == [EventStatus.SCHEDULED, EventStatus.DELIVERED]
    monkeypatch.undo()
    forward(minutes=1, seconds=1)
    assert events.deliver_due() == 1


def test_the_ticker_sleeps_no_longer_than_until_then():
    send(timedelta(seconds=30))
    assert 0 < (wakes.next_deadline() or 0) <= 30


def test_the_same_id_is_one_event_whenever_it_is_to_be_delivered():
    first = send(external_id="order-1")
    assert events.emit("paid", "2", external_id="order-1").cached
    assert events.emit("paid", "3", external_id="order-1", deliver=HOUR).id == first.id
    assert Event.objects.count() == 1


def test_a_moment_that_is_past_is_now():
    event = send(datetime(2020, 1, 1, tzinfo=UTC))
    assert events.deliver_due() == 1
    assert fresh(event).status == EventStatus.DELIVERED


@pytest.mark.parametrize("deliver", [datetime(2030, 1, 1), -HOUR, timedelta(days=40_000), "1h"])  # noqa: DTZ001
def test_a_time_that_cannot_be_is_refused(deliver):
    with pytest.raises(BadInput):
        send(deliver)
    assert not Event.objects.exists()


def test_it_is_called_off_once_and_noted():
    wait, event = make_waiting("paid"), send()
    here = environments.current()
    assert [events.cancel(event.id, environment=here, actor="me") for _ in range(2)] == [True, False]
    forward(hours=2)
    assert events.deliver_due() == 0
    assert (fresh(event).status, fresh(wait).status) == (EventStatus.CANCELED, WaitStatus.PENDING)
    assert AuditEntry.objects.get().action == "event.cancel"


def test_what_was_delivered_cannot_be_called_off():
    event = events.emit("paid", "1")
    with pytest.raises(IllegalMove, match="was delivered"):
        events.cancel(event.id, environment=environments.current())
    with pytest.raises(NotFound):
        events.cancel(event.id, environment=environments.by_slug("prod"))


def test_delivery_and_calling_off_at_once_have_one_winner():
    for n in range(20):
        event, here = send(timedelta(0), external_id=str(n)), environments.current()

        def cancel(event=event, here=here) -> bool:
            try:
                return events.cancel(event.id, environment=here)
            except IllegalMove:
                return False

        delivered, canceled = at_once(events.deliver_due, cancel)
        assert bool(delivered) != canceled
        assert fresh(event).status == (EventStatus.DELIVERED if delivered else EventStatus.CANCELED)


def test_it_is_kept_until_it_is_delivered_however_late_that_is():
    event = send(timedelta(days=60))
    forward(days=30)
    events.prune()
    assert fresh(event).status == EventStatus.SCHEDULED


def test_python_sends_and_calls_off_by_the_same_name():
    sent = api.send("paid", 1, deliver_after=HOUR)
    assert Event.objects.get(pk=sent).status == EventStatus.SCHEDULED
    assert (api.cancel(sent), api.cancel(f"event_{sent}")) == (True, False)
    api.send("paid", 1, deliver_at=datetime(2040, 1, 1, tzinfo=UTC))
    with pytest.raises(BadInput, match="not both"):
        api.send("paid", deliver_at=datetime(2040, 1, 1, tzinfo=UTC), deliver_after=HOUR)
    with pytest.raises(NotFound):
        api.cancel("none")


def test_a_run_sends_it_once_over_its_entries(worker: Worker):
    from tests.inprocess import durable
    from workers import wait

    @durable
    def later() -> str:
        sent = api.send("paid", 1, deliver_after=timedelta(days=365))
        wait.sleep(hours=1)
        return sent

    assert worker.until(later.trigger()) == str(Event.objects.get().id)


def test_the_command_sends_it_later():
    call_command("send_event", "paid", "--after", "2h")
    assert Event.objects.get().status == EventStatus.SCHEDULED
