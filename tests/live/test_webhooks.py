"""A webhook at a live site starts its task once, also where the server is killed between verification and answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psycopg
import pytest

from tests.acceptance.cluster import wait_until
from tests.live.site import Site, free_port, live, running
from tests.triggerapp import signing
from tests.triggerapp.signing import Sent

pytestmark = [pytest.mark.worker, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live("hooks", 53, tasks="tests.live.listening", folder=tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture(scope="module")
def secret(site: Site) -> str:
    """Of the endpoint `hub`."""
    return site.manage("webhooks", "create", "hub", "--preset", "github").split()[0]


def post(url: str, sent: Sent) -> dict[str, Any] | None:
    """The answer to a delivery; None if nobody answered."""
    headers = {**sent.headers, "content-type": "application/json"}
    try:
        with urlopen(Request(f"{url}/hooks/hub", sent.body, headers), timeout=120) as answer:
            assert answer.status == 200
            return dict(json.load(answer))
    except HTTPError as error:
        raise AssertionError(error.read()) from error
    except (URLError, OSError):
        return None


def rows(site: Site, statement: str) -> list[Any]:
    with psycopg.connect(site.cluster.database_url) as connection:
        return connection.execute(statement).fetchall()


def runs(site: Site) -> list[str]:
    return [row[0] for row in rows(site, "SELECT status FROM triggerapp_run WHERE task = 'hooks.listen'")]


def test_a_delivery_starts_its_task_in_a_worker_of_another_process(site: Site, secret: str):
    wait_until(lambda: rows(site, "SELECT 1 FROM triggerapp_subscription"), within=120)
    before = len(runs(site))
    sent = signing.github({"n": 1}, secret=secret)
    answers = [post(site.url, sent) for _ in range(3)]
    assert [answer and answer["duplicate"] for answer in answers] == [False, True, True]
    wait_until(lambda: len(runs(site)) > before and set(runs(site)) == {"completed"}, within=120)
    assert len(runs(site)) == before + 1


@pytest.mark.parametrize("point", ["hook.verified", "event.before_commit", "hook.before_commit", "hook.after_commit"])
def test_a_server_killed_on_the_way_answers_nothing_and_the_next_try_starts_one_run(
    site: Site, secret: str, tmp_path: Path, point: str
):
    wait_until(lambda: rows(site, "SELECT 1 FROM triggerapp_subscription"), within=120)
    before, url = len(runs(site)), f"http://127.0.0.1:{(port := free_port())}"
    environment = {**site.environment, "TRIGGERAPP_FAIL": f"{point}:kill9@1"}
    command = ["uvicorn", "tests.live.asgi:application", "--port", str(port), "--lifespan", "off"]
    sent = signing.github({"n": 2, "point": point}, secret=secret)
    with running(command, environment, tmp_path / "server.log"):
        wait_until(lambda: "running on" in (tmp_path / "server.log").read_text().lower(), within=120)
        assert post(url, sent) is None, "there is no answer from a server that is dead"
    stored = rows(site, f"SELECT 1 FROM triggerapp_delivery WHERE position('{point}' in encode(body, 'escape')) > 0")
    assert bool(stored) == (point == "hook.after_commit")
    again = post(site.url, sent)
    assert again is not None
    assert again["duplicate"] == bool(stored)
    wait_until(lambda: len(runs(site)) > before and set(runs(site)) == {"completed"}, within=120)
    assert len(runs(site)) == before + 1
