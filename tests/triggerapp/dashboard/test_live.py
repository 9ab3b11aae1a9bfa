"""Live pages: what changes reaches everybody who looks, by one connection."""

from __future__ import annotations

import asyncio
import queue
import time
from contextlib import ExitStack
from functools import partial
from uuid import UUID

import pytest
from django.db import connection

from tests.factories import fresh, make_run, make_step
from triggerapp.dashboard import live, streams
from triggerapp.dashboard.live import Hub, Message
from triggerapp.engine import watching
from triggerapp.models import Status


@pytest.fixture
def hub(database):
    hub = Hub()
    yield hub
    end = time.monotonic() + 60
    while hub._thread is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert hub._thread is None


def received(inbox, event, within=120):
    """The next message of this kind."""
    while True:
        message = inbox.get(timeout=within)
        if message.event == event:
            return message


def test_a_step_and_a_change_of_status_reach_the_page(hub):
    run = make_run(Status.RUNNING)
    inbox = queue.SimpleQueue()
    with hub.viewing([run.id], inbox.put, rows=False):
        assert received(inbox, "status").data == "running"
        make_step(run, "charge_card#1")
        assert "charge_card#1" in received(inbox, "timeline").data
        fresh(run).move(Status.COMPLETED, lease=run.lease)
        assert received(inbox, "status").data == "completed"
        assert received(inbox, "over")


def test_what_is_filled_in_is_left_alone_until_the_status_is_another_than_the_page_has(hub):
    run, inbox = make_run(Status.RUNNING), queue.SimpleQueue()
    with hub.viewing([run.id], inbox.put, rows=False, shown="running"):
        assert received(inbox, "timeline")
        fresh(run).move(Status.FAILED, lease=run.lease)
        assert received(inbox, "status").data == "failed"


def test_nothing_is_said_while_nothing_changes(hub):
    run = make_run(Status.RUNNING)
    inbox = queue.SimpleQueue()
    with hub.viewing([run.id], inbox.put, rows=False):
        received(inbox, "status")
        with pytest.raises(queue.Empty):
            inbox.get(timeout=4 * watching.PAUSE)


def test_rows_of_a_list_change_where_they_are(hub):
    runs = [make_run(Status.RUNNING) for _ in range(3)]
    inbox = queue.SimpleQueue()
    with hub.viewing([run.id for run in runs], inbox.put, rows=True):
        first = {inbox.get(timeout=120).event for _ in runs}
        assert first == {f"run-{run.id}" for run in runs}
        runs[0].move(Status.COMPLETED, lease=runs[0].lease)
        message = received(inbox, f"run-{runs[0].id}")
        assert "completed" in message.data
        assert "<tr" not in message.data  # it stays: what hears for it must not go with it


def connections_in_use():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


def test_three_hundred_viewers_get_every_change_over_one_connection(hub):
    run = make_run(Status.RUNNING)
    before = connections_in_use()
    inboxes = [queue.SimpleQueue() for _ in range(300)]
    with ExitStack() as stack:
        for inbox in inboxes:
            stack.enter_context(hub.viewing([run.id], inbox.put, rows=False))
        assert all("step#" not in received(inbox, "timeline").data for inbox in inboxes)
        for n in range(5):
            make_step(run, f"step#{n}")
            assert all(f"step#{n}" in received(inbox, "timeline").data for inbox in inboxes)
        assert connections_in_use() <= before + 1


def test_a_stream_speaks_the_protocol_and_no_text_can_forge_an_event():
    message = Message(event="facts", data="one\r\nevent: over\rdata: x\n\n")
    assert streams.encode(message) == b"event: facts\ndata: one\ndata: event: over\ndata: data: x\ndata: \ndata: \n\n"


def test_a_browser_gets_the_state_first_and_the_end_of_a_run_ends_its_stream(viewer):
    run = make_run(Status.COMPLETED)
    response = viewer.get(f"/triggers/runs/{run.id}/live")
    assert response["Content-Type"] == "text/event-stream"
    text = b"".join(response.streaming_content).decode()
    assert text.startswith(":\n\nevent: facts\n")
    assert text.rstrip().endswith("event: over\ndata: completed")


def test_a_browser_that_comes_again_is_not_told_of_the_status_that_its_page_has(viewer):
    run = make_run(Status.COMPLETED)
    url = f"/triggers/runs/{run.id}/live?line=0&status=running"
    first = b"".join(viewer.get(url).streaming_content).decode()
    assert "event: status\nid: 0 completed\n" in first
    for again in (viewer.get(url, headers={"last-event-id": "0 completed"}), viewer.get(f"{url}&place=0+completed")):
        assert b"event: status" not in b"".join(again.streaming_content)


def test_no_status_of_an_address_can_forge_an_event(viewer):
    run = make_run(Status.COMPLETED)
    response = viewer.get(f"/triggers/runs/{run.id}/live?status=x%0Aevent: forged")
    assert b"forged" not in b"".join(response.streaming_content)


def test_a_made_up_address_of_rows_is_a_stream_of_nothing(viewer):
    response = viewer.get("/triggers/runs/live?run=rubbish")
    assert response.status_code == 200
    response.close()


async def collected(run_id: UUID) -> str:
    look = partial(live.hub.viewing, [run_id], rows=False)
    return b"".join([text async for text in streams._events_async(look)]).decode()


def test_under_asgi_it_is_the_same(database):
    run = make_run(Status.COMPLETED)
    assert "event: over" in asyncio.run(asyncio.wait_for(collected(run.id), 120))
