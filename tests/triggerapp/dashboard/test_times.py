"""Pages count by the database's clock: a web process whose own is wrong shows no wrong age, and asks for it seldom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from django.test import Client

from tests.browser import scenery
from tests.factories import make_run
from triggerapp import clock
from triggerapp.dashboard import listing

AHEAD = timedelta(days=400)
AGAIN = clock._ASKED_AGAIN
Asked = list[datetime]


@pytest.fixture
def asked(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """The database's clock and that of this process are 400 days apart; what the database was asked for and said."""
    said: Asked = []
    really = clock.now

    def now() -> datetime:
        said.append(really() + AHEAD)
        return said[-1]

    monkeypatch.setattr(clock, "_told", None)
    monkeypatch.setattr(clock, "now", now)
    yield said


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed, in a world where the database is asked again as it is outside of tests."""
    seconds = [0.0]
    monkeypatch.setattr(clock, "_passed", lambda: seconds[0])
    monkeypatch.setattr(clock, "_ASKED_AGAIN", AGAIN)
    return seconds


def text(client: Client, address: str) -> str:
    answer = client.get(f"/triggers/{address}")
    return str(answer.content.decode())


def test_every_page_has_the_databases_now_and_asks_for_it_once(administrator: Client, asked: Asked):
    pages = scenery.ordinary().addresses()
    of_runs = [pages.pop(name) for name in list(pages) if name.startswith("run-")]
    for name in pages.keys() - {"failure", "test"}:  # there is no such run, no such task
        (moment,) = re.findall(r'<body data-now="(.*?)">', text(administrator, pages[name]))
        assert abs(datetime.fromisoformat(moment) - datetime.now(UTC) - AHEAD) < timedelta(minutes=10), name
    assert len(asked) == 1
    for address in of_runs:  # which are given it by the query for their run
        assert " data-now=" in text(administrator, address)
    assert len(asked) == 1


def test_ages_are_counted_by_it(viewer: Client, asked: Asked):
    make_run()
    assert ">400 d ago</time>" in text(viewer, "runs/")


def test_it_is_counted_on_for_a_minute_and_then_asked_for_again(asked: Asked, passed: list[float]):
    first = clock.about_now()
    passed[0] = 59.0
    assert clock.about_now() - first == timedelta(seconds=59)
    assert len(asked) == 1
    passed[0] = 60.0
    assert clock.about_now() == asked[-1] != first
    assert len(asked) == 2


def test_it_is_never_behind_however_long_the_database_takes_to_say_it(
    asked: Asked, passed: list[float], monkeypatch: pytest.MonkeyPatch
):
    answers = clock.now

    def late() -> datetime:
        passed[0] += 5.0
        return answers()

    monkeypatch.setattr(clock, "now", late)
    assert clock.about_now() == asked[0] + timedelta(seconds=5)


def test_a_page_that_says_that_the_database_is_away_does_not_ask_it(
    log_in: Callable[..., Client], asked: Asked, monkeypatch: pytest.MonkeyPatch
):
    def away(*_: object, **__: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(listing.queries, "runs", away)
    answer = log_in("viewer").get("/triggers/runs/")
    assert (answer.status_code, asked) == (503, [])
    assert "data-now" not in answer.content.decode()
