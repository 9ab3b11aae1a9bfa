"""Fixtures of the fault tests: servers that may be killed, and lanes on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.faults import database
from tests.faults.lane import ROOT, Lane
from triggerapp.services import Services

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.worker)


@pytest.fixture(scope="package")
def servers() -> Iterator[Services]:
    """Servers of these tests alone: others' would not like to be killed. The template database is ready in them."""
    folder = Path(tempfile.mkdtemp(prefix="triggerapp-faults-"))
    folder.chmod(0o711)  # the database's account has to pass through
    services = Services(folder, die_with_parent=True)
    try:
        urls = services.start()
        _make_template(urls.database_url, urls.broker_url)
        yield services
    finally:
        services.stop()
        shutil.rmtree(services.postgres.home)
        shutil.rmtree(folder)


def _make_template(database_url: str, broker_url: str) -> None:
    template = database.named(database_url, database.TEMPLATE)
    database.create(database_url, database.TEMPLATE)
    env = {**os.environ, "DATABASE_URL": template, "CELERY_BROKER_URL": broker_url}
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=env, check=True)
    database.remember(template)


@pytest.fixture(scope="package")
def make_lane(servers: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lane]]:
    """Makes lanes; all are closed in the end."""
    lanes: list[Lane] = []
    numbers = count(1)
    urls = servers.urls()
    assert urls is not None

    def make(**env: str) -> Lane:
        number = next(numbers)
        name = f"lane{number}"
        database.create(urls.database_url, name, template=database.TEMPLATE)
        folder = tmp_path_factory.mktemp(name)
        lane = Lane(name, number, database_url=urls.database_url, broker_url=urls.broker_url, folder=folder, env=env)
        lanes.append(lane)
        return lane

    yield make
    for lane in lanes:
        lane.close()


@pytest.fixture
def lane(make_lane: Callable[..., Lane]) -> Lane:
    """A lane."""
    return make_lane()
