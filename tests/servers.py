"""A pytest plugin: every session has real servers of its own, ended with it, however it ends.

It is named in pyproject.toml and so runs before pytest-django reads the settings. The first process starts the
servers, parallel ones share them. `DATABASE_URL` and `CELERY_BROKER_URL`, if both are set, are used instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from triggerapp.services import Services

_own: list[Services] = []


@pytest.hookimpl(wrapper=True)  # wrappers come before pytest-django
def pytest_load_initial_conftests() -> Generator[None]:
    provide()
    return (yield)


def pytest_unconfigure() -> None:
    remove()


def provide() -> None:
    """Set both URLs. A parallel test process finds those of the first and takes a pair of broker databases."""
    if not (os.environ.get("DATABASE_URL") and os.environ.get("CELERY_BROKER_URL")):
        _start()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        os.environ["CELERY_BROKER_URL"] = _pair(
            os.environ["CELERY_BROKER_URL"], number=1 + int(worker.removeprefix("gw"))
        )


def remove() -> None:
    """Stop what this process started, and remove its data."""
    while _own:
        services = _own.pop()
        services.stop()
        shutil.rmtree(services.postgres.home)
        shutil.rmtree(services.folder)


def _start() -> None:
    folder = Path(tempfile.mkdtemp(prefix="triggerapp-"))
    folder.chmod(0o711)  # as root the database runs under another account, which has to pass through
    services = Services(folder, die_with_parent=True)
    _own.append(services)
    urls = services.start()
    os.environ.setdefault("DATABASE_URL", urls.database_url)
    os.environ.setdefault("CELERY_BROKER_URL", urls.broker_url)


def _pair(url: str, *, number: int) -> str:
    """The `number`-th pair of databases: messages in the even one, results in the odd one."""
    parts = urlsplit(url)
    if not parts.scheme.startswith("redis"):
        return url
    return urlunsplit(parts._replace(path=f"/{2 * number}"))
