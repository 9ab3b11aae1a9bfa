"""The page of metrics: what it says, and what it costs."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.factories import make_run
from triggerapp.clock import now
from triggerapp.dashboard import figures
from triggerapp.engine import checkpoints
from triggerapp.models import Checkpoint, Run, Status

URL = "/triggers/metrics/"


def end(status, *, ago=timedelta(minutes=1), after=1.0):
    """A run that ended then, after so many seconds."""
    run = make_run(status)
    ended = now() - ago
    started = None if run.started_at is None else ended - timedelta(seconds=after)
    Run.objects.filter(pk=run.pk).update(started_at=started, finished_at=ended)
    return run


def freeze(run, **fields):
    values = {"id": uuid4(), "sequence": 1, "lease": 1, "attempt": 1, "crashes": 0, "host": "h", "pid": 1, "pipe": 1}
    return Checkpoint.objects.create(run=run, **values, **fields, took=timedelta(seconds=1))


def test_without_runs_it_says_nothing_wrong(viewer):
    context = viewer.get(URL).context
    assert context["ended"].total.ended == 0
    assert context["ended"].total.p95 is None
    assert len(context["ended"].points) == 24 * 4 + 1


def test_ended_runs_are_counted_by_how_and_when_they_ended(viewer):
    for seconds in (1, 2, 3):
        end(Status.COMPLETED, after=seconds)
    end(Status.FAILED, ago=timedelta(minutes=40))
    end(Status.CANCELED)
    end(Status.EXPIRED)
    end(Status.COMPLETED, ago=timedelta(hours=3))
    ended = viewer.get(f"{URL}?window=1h").context["ended"]
    assert (ended.total.completed, ended.total.failed, ended.total.stopped) == (3, 1, 2)
    assert sum(point.ended for point in ended.points) == 6
    assert len(ended.points) == 61
    assert (ended.total.p50, ended.total.p95) == (1.5, pytest.approx(2.85))
    assert viewer.get(f"{URL}?window=6h").context["ended"].total.completed == 4


def test_waiting_runs_and_the_memory_that_they_do_not_hold(viewer):
    freeze(make_run(Status.WAITING), size=250_000, image_size=60_000_000)
    freeze(make_run(Status.WAITING), size=250_000, image_size=62_000_000)
    freeze(make_run(Status.RUNNING), size=1, image_size=1)
    make_run(Status.WAITING)
    response = viewer.get(URL)
    waiting = response.context["waiting"]
    assert (waiting.runs, waiting.images, waiting.freed, waiting.stored) == (3, 2, 122_000_000, 500_000)
    assert "122.0 MB" in response.content.decode()


def test_how_many_runs_came_back_by_restore_and_how_fast(viewer):
    run = make_run(Status.RUNNING)
    assert viewer.get(URL).context["restores"].share is None
    image = freeze(run, size=1, image_size=1)
    for seconds, problem in ((0.1, ""), (0.2, ""), (0.3, ""), (9, "its image is not in the store")):
        took = timedelta(seconds=seconds)
        checkpoints.note_tried(run.id, image.id, lease=run.lease, host="h", took=took, problem=problem)
    checkpoints.note_tried(run.id, image.id, lease=run.lease - 1, host="h", took=took)  # of a worker that lost it
    response = viewer.get(URL)
    restores = response.context["restores"]
    assert (restores.tried, restores.succeeded, restores.share) == (4, 3, 75)
    assert (restores.p50, restores.p95) == (pytest.approx(0.2), pytest.approx(0.29))
    assert "3 of 4" in response.content.decode()


def test_only_so_many_runs_are_looked_at_and_the_page_says_so(viewer, monkeypatch):
    monkeypatch.setattr(figures, "_ENDED", figures._ENDED.replace(f"LIMIT {figures.SAMPLE}", "LIMIT 2"))
    monkeypatch.setattr(figures, "SAMPLE", 2)
    end(Status.COMPLETED, ago=timedelta(minutes=50))
    for minutes in (30, 20):
        end(Status.COMPLETED, ago=timedelta(minutes=minutes))
    response = viewer.get(f"{URL}?window=1h")
    assert response.context["ended"].total.completed == 2
    assert "Of the newest ended runs, back to" in response.content.decode()


def test_the_curves_are_data_and_there_is_no_script_in_the_page(viewer):
    end(Status.COMPLETED)
    response = viewer.get(f"{URL}?window=1h&environment=dev")
    throughput, durations = (json.loads(chart["data"]) for chart in response.context["charts"])
    assert [len(curve) for curve in throughput["data"]] == [61, 61, 61, 61]
    assert sum(throughput["data"][1]) == 1
    assert [value for value in durations["data"][1] if value is not None] == [1.0]
    html = response.content.decode()
    assert "uplot-1.6.32.min.js" in html
    assert "<script>" not in html


@pytest.mark.parametrize("query", ["?window=x", "?environment=none", "?environment=%00"])
def test_an_address_that_means_nothing_shows_the_page(viewer, query):
    assert viewer.get(URL + query).status_code == 200


def test_others_environments_are_not_counted(viewer):
    end(Status.COMPLETED)
    assert viewer.get(f"{URL}?environment=other").context["ended"].total.ended == 0
