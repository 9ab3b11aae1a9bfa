"""The log on the page of a run, over its stream, as a file, and in a terminal."""

from __future__ import annotations

import logging
import queue
import time
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import make_run, make_step
from triggerapp.dashboard import live, logs
from triggerapp.dashboard.live import ALL, Hub, Viewer
from triggerapp.dashboard.logs import LogFilter
from triggerapp.engine import logs as engine
from triggerapp.models import LogLine, Status

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def say(run, *texts, level=logging.INFO, step="", attempt=1):
    """The run says this."""
    lines = [
        engine.Line(at=time.time(), level=level, logger="shop", text=text, attempt=attempt, step=step) for text in texts
    ]
    engine.write(run.id, lines, lease=run.lease)


def page(client, run, query=""):
    response = client.get(f"/triggers/runs/{run.id}/{query}")
    assert response.status_code == 200
    return response


def shown(client, run, query=""):
    return [row.text for row in page(client, run, query).context["log"].rows]


def test_lines_stand_under_their_attempt_and_step(viewer):
    run = make_run(Status.RUNNING)
    say(run, "began")
    say(run, "charged", "noted", step="charge#1")
    say(run, "ended")
    response = page(viewer, run)
    begins = [(row.text, row.begins) for row in response.context["log"].rows]
    assert begins == [("began", True), ("charged", True), ("noted", False), ("ended", True)]
    html = response.content.decode()
    assert html.index("charge#1</code></th>") < html.index("charged")


def test_a_step_leads_to_its_lines(viewer):
    run = make_run(Status.RUNNING)
    make_step(run, "charge#1")
    say(run, "began")
    say(run, "charged", "noted", step="charge#1")
    response = page(viewer, run)
    (step,) = [span for span in response.context["spans"] if span.kind == "step"]
    assert step.said == 2
    assert shown(viewer, run, f"?{step.lines}") == ["charged", "noted"]
    (attempt,) = [span for span in response.context["spans"] if span.kind == "attempt"]
    assert shown(viewer, run, f"?{attempt.lines}") == ["began"]


def test_lines_are_found_by_level_and_text(viewer):
    run = make_run(Status.COMPLETED)
    say(run, "Seat 12a")
    say(run, "no answer", level=logging.WARNING)
    say(run, "no seat", level=logging.ERROR)
    assert shown(viewer, run, "?level=warning") == ["no answer", "no seat"]
    assert shown(viewer, run, "?text=SEAT") == ["Seat 12a", "no seat"]
    assert shown(viewer, run, "?level=error&text=seat") == ["no seat"]
    assert "No line matches" in page(viewer, run, "?text=nothing").content.decode()


@pytest.mark.parametrize("query", ["?level=x&attempt=x&before=x", "?text=%00", f"?before={'9' * 40}", "?attempt=99999"])
def test_an_address_that_means_nothing_still_shows_the_page(viewer, query):
    run = make_run(Status.RUNNING)
    say(run, "hello")
    page(viewer, run, query)
    stream = viewer.get(f"/triggers/runs/{run.id}/live{query}&line=x")
    assert stream.status_code == 200
    stream.close()


def test_of_an_attempt_that_there_is_not_no_line_is_shown(viewer):
    run = make_run(Status.RUNNING)
    say(run, "hello", attempt=1234)
    assert shown(viewer, run, "?attempt=1234") == ["hello"]
    for none in ("12345", "9" * 40):
        assert shown(viewer, run, f"?attempt={none}") == []


def test_the_newest_lines_are_shown_and_the_earlier_ones_by_a_link(viewer, monkeypatch):
    monkeypatch.setattr(logs, "SHOWN", 3)
    run = make_run(Status.COMPLETED)
    say(run, *"abcdefg")
    context = page(viewer, run).context
    assert [row.text for row in context["log"].rows] == ["e", "f", "g"]
    assert shown(viewer, run, f"?{context['log_earlier']}") == ["b", "c", "d"]
    assert viewer.get(f"/triggers/runs/{run.id}/log").content.decode().count("\n") == 7


def test_lines_come_as_a_file_with_time_level_and_step(viewer):
    run = make_run(Status.RUNNING)
    say(run, "charged", step="charge#1")
    response = viewer.get(f"/triggers/runs/{run.id}/log")
    assert "attachment" in response["Content-Disposition"]
    assert response.content.decode().endswith("INFO     [1 charge#1] charged\n")


def test_text_of_any_kind_stays_text(viewer):
    run = make_run(Status.RUNNING)
    say(run, EVIL, step=EVIL)
    html = page(viewer, run, "?text=<script>alert").content.decode()
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_secrets_that_the_settings_name_only_now_are_not_shown(viewer, settings):
    run = make_run(Status.RUNNING)
    say(run, "pin=1234")
    settings.TRIGGERAPP = {"REDACT": ("pin",)}
    assert shown(viewer, run) == ["pin=(hidden)"]


def test_a_thousand_lines_cost_as_many_queries_as_one(viewer):
    run = make_run(Status.RUNNING)
    say(run, "one")
    with CaptureQueriesContext(connection) as one:
        page(viewer, run)
    say(run, *map(str, range(1000)))
    with CaptureQueriesContext(connection) as many:
        page(viewer, run)
    assert len(one) == len(many) <= 19


def collected(inbox, count):
    """The lines of the stream, until there are so many."""
    found, end = "", time.monotonic() + 60
    while found.count('class="said"') < count and time.monotonic() < end:
        message = inbox.get(timeout=120)
        found += message.data if message.event == "log" else ""
    return found


def test_new_lines_come_over_the_stream_once_and_only_those_that_are_wanted(database):
    run, hub = make_run(Status.RUNNING), Hub()
    say(run, "old")
    old = LogLine.objects.get().id
    everything, errors = queue.SimpleQueue(), queue.SimpleQueue()
    with (
        hub.viewing([run.id], everything.put, rows=False, line=old),
        hub.viewing([run.id], errors.put, rows=False, line=old, log=LogFilter(level="error")),
    ):
        say(run, "new")
        first = collected(everything, 1)
        say(run, "bad", level=logging.ERROR)
        second = collected(everything, 1)
        assert "bad" in collected(errors, 1)
    assert "new" in first
    assert "rowgroup" not in first  # it follows on the line that the page has
    assert "bad" in second
    assert "old" not in first + second
    assert "new" not in second


def test_a_line_that_comes_within_a_look_is_shown_once(database, monkeypatch):
    run, hub, messages, states = make_run(Status.RUNNING), Hub(), [], live._states
    viewer = Viewer(runs=frozenset([run.id]), deliver=messages.append, rows=False, log=ALL, line=0)
    hub._watchers.add(viewer)  # without its thread: the test looks itself

    def looked(runs):
        found = states(runs)
        say(run, "meanwhile")
        return found

    say(run, "first")
    monkeypatch.setattr(live, "_states", looked)
    hub.look()
    monkeypatch.setattr(live, "_states", states)
    hub.look()
    text = "".join(message.data for message in messages if message.event == "log")
    assert (text.count("first"), text.count("meanwhile")) == (1, 1)


def test_the_stream_ends_after_the_last_line(viewer):
    run = make_run(Status.COMPLETED)
    LogLine.objects.bulk_create(
        LogLine(run=run, environment_id=run.environment_id, lease=1, attempt=1, step="", level=20, text=f"line {n}")
        for n in range(2 * logs.SHOWN + 10)
    )
    text = b"".join(viewer.get(f"/triggers/runs/{run.id}/live").streaming_content).decode()
    assert text.count('class="said"') == 2 * logs.SHOWN + 10
    assert text.rstrip().endswith("event: over\ndata: completed")
    last = LogLine.objects.order_by("-id").first().id
    assert f"\nid: {last} completed\n" in text
    again = viewer.get(f"/triggers/runs/{run.id}/live", headers={"Last-Event-ID": f"{last} completed"})
    assert 'class="said"' not in b"".join(again.streaming_content).decode()


def test_tail_says_what_a_run_says(database):
    run = make_run(Status.COMPLETED)
    say(run, "charged\x1b[31m", level=logging.WARNING, step="charge#1")
    out = StringIO()
    call_command("runs", "tail", str(run.id), stdout=out)
    assert "log        warning    charge#1: charged\\x1b[31m" in out.getvalue()
