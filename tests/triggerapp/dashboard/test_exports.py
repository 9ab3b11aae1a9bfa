"""The list of runs as a file."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from tests.factories import make_run
from triggerapp.dashboard import exports
from triggerapp.models import Status

URL = "/triggers/runs/export/"


def text(response):
    assert response.status_code == 200
    return b"".join(response).decode()


def rows(client, query=""):
    """The cells of the CSV, below the names of the columns."""
    names, *found = csv.reader(io.StringIO(text(client.get(f"{URL}csv{query}"))))
    return [dict(zip(names, row, strict=False)) for row in found]


def test_a_file_has_what_the_filter_of_the_page_finds_the_newest_first(viewer):
    runs = [make_run(Status.COMPLETED, task="shop.buy", tags=["a", "b"]) for _ in range(2)]
    make_run(Status.COMPLETED)
    found = rows(viewer, "?task=shop.buy")
    assert [row["id"] for row in found] == [str(run.id) for run in reversed(runs)]
    assert (found[0]["status"], found[0]["tags"], found[0]["queue"]) == ("completed", "a b", "tests")
    shown = json.loads(text(viewer.get(f"{URL}json?task=shop.buy")))
    assert [run["id"] for run in shown["runs"]] == [row["id"] for row in found]
    assert (shown["complete"], shown["runs"][0]["tags"]) == (True, ["a", "b"])


def test_a_list_without_runs_is_a_file_without_runs(viewer):
    assert rows(viewer) == []
    assert json.loads(text(viewer.get(f"{URL}json")))["runs"] == []


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"])
def test_no_cell_is_a_formula(viewer, name):
    make_run(Status.COMPLETED, task=name, tags=[name], task_id=f"{name}!")
    (row,) = rows(viewer)
    assert row["task"] == f"'{name}"
    assert all(not value.startswith(exports._FORMULA) for value in row.values())
    (run,) = json.loads(text(viewer.get(f"{URL}json")))["runs"]
    assert run["task"] == name


def test_many_runs_come_in_several_looks_and_too_many_are_cut_with_a_word(viewer, monkeypatch):
    monkeypatch.setattr(exports, "_AT_ONCE", 2)
    for _ in range(5):
        make_run(Status.COMPLETED)
    assert len(rows(viewer)) == 5
    monkeypatch.setattr(exports, "MOST", 3)
    *found, last = rows(viewer)
    assert len(found) == 3
    assert "There are more: a file has the newest 3 runs" in last["id"]
    shown = json.loads(text(viewer.get(f"{URL}json")))
    assert (len(shown["runs"]), shown["complete"]) == (3, False)


def test_a_search_that_no_index_answers_goes_to_the_end(viewer, monkeypatch):
    monkeypatch.setattr("triggerapp.dashboard.queries.SEARCHED", 2)
    wanted = make_run(Status.COMPLETED, task="rare")
    for _ in range(5):
        make_run(Status.COMPLETED)
    assert [row["id"] for row in rows(viewer, "?task=rare")] == [str(wanted.id)]


def test_a_search_that_finds_hardly_anything_ends_and_says_how_far_it_came(viewer, monkeypatch):
    monkeypatch.setattr("triggerapp.dashboard.queries.SEARCHED", 2)
    monkeypatch.setattr(exports, "_LOOKS", 2)
    make_run(Status.COMPLETED, task="rare")
    runs = [make_run(Status.COMPLETED) for _ in range(5)]
    wanted = make_run(Status.COMPLETED, task="rare")
    row, last = rows(viewer, "?task=rare")
    assert row["id"] == str(wanted.id)
    assert "were not searched" in last["id"]
    shown = json.loads(text(viewer.get(f"{URL}json?task=rare")))
    assert (len(shown["runs"]), shown["complete"]) == (1, False)
    assert runs[2].created_at.isoformat(timespec="seconds") in shown["note"]


def test_under_asgi_it_is_written_while_it_is_read(viewer, monkeypatch):
    monkeypatch.setattr(exports, "_AT_ONCE", 2)
    for _ in range(5):
        make_run(Status.COMPLETED)
    client = AsyncClient()
    client.cookies = viewer.cookies

    async def pieces():
        response = await client.get(f"{URL}csv")
        assert response.is_async
        try:
            return [piece async for piece in response]
        finally:
            await sync_to_async(connections.close_all)()  # those of the thread that the view ran in

    assert len(asyncio.run(pieces())) == 4


def test_there_are_two_kinds_of_files(viewer):
    assert viewer.get(f"{URL}xml").status_code == 404
    page = viewer.get("/triggers/runs/")
    assert "export/csv" not in page.content.decode()
    make_run()
    assert "export/csv?task=tests.task" in viewer.get("/triggers/runs/?task=tests.task").content.decode()
