"""Fixtures for every test. The servers they stand on are started by `tests.servers`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker

from tests.factories import delete_everything
from tests.inprocess import Worker, app, forget_messages
from triggerapp.engine import environments, queues

# Its own limits are times, and a machine may be busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

LONGEST = "tests/faults/test_sweep.py"
"""Begun first, it is not what all others wait for in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(autouse=True)
def own_app() -> None:
    """The app of tests in this process; another test may have made its own the current one."""
    app.set_current()
    app.set_default()


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    django_db_modify_db_settings: None,  # parallel sessions have a database each
) -> Iterator[None]:
    """pytest-django's own makes a test database only where a test has its mark, which stands for another isolation."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases=["default"])
    yield
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:  # threads that a test left may still be connected
            cursor.execute(_END_OTHERS)
        teardown_databases(made, verbosity=0)


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The real database, with real commits; what a test wrote is deleted after it, not rolled back."""
    with django_db_blocker.unblock():
        # Another test's flush may have taken the rows whose ids are kept for the life of the process.
        environments.by_slug.forget()
        queues.identify.forget()
        yield
        delete_everything()
        forget_messages()


@pytest.fixture
def worker(database: None) -> Iterator[Worker]:
    """A worker in this process."""
    worker = Worker()
    yield worker
    worker.stop()
