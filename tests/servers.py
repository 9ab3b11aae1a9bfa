"""A pytest plugin: every session has real servers and a folder for temporary files of its own, gone when it ends.

It is named in pyproject.toml and so runs before pytest-django reads the settings. The first process starts the
servers, parallel ones share them. `DATABASE_URL` and `CELERY_BROKER_URL`, if both are set, are used instead.
Temporary files count in gigabytes, for images of processes are among them: those of workers that tests kill, too.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from triggerapp.services import Services

_own: list[Services] = []
_temporary: list[Path] = []


@pytest.hookimpl(wrapper=True)  # wrappers come before pytest-django
def pytest_load_initial_conftests() -> Generator[None]:
    provide()
    return (yield)


def pytest_unconfigure() -> None:
    remove()


def provide() -> None:
    """Set both URLs. A parallel test process finds those of the first and takes a pair of broker databases."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if not worker:
        _keep_temporary_files_together()
    if not (os.environ.get("DATABASE_URL") and os.environ.get("CELERY_BROKER_URL")):
        _start()
    if worker:
        os.environ["CELERY_BROKER_URL"] = _pair(
            os.environ["CELERY_BROKER_URL"], number=1 + int(worker.removeprefix("gw"))
        )


def remove() -> None:
    """Stop what this process started, and remove its data."""
    gc.collect()  # results that are garbage unsubscribe, for which their server has to be there
    while _own:
        services = _own.pop()
        services.stop()
        shutil.rmtree(services.postgres.home)
        shutil.rmtree(services.folder)
    while _temporary:
        shutil.rmtree(_temporary.pop(), ignore_errors=True)  # what a worker was killed over may still be dying


def _keep_temporary_files_together() -> None:
    """In a folder with a short name, as sockets are made in it: their paths have 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    folder.chmod(0o711)  # as root a database runs under another account, which has to pass through
    _temporary.append(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _start() -> None:
    folder = Path(tempfile.mkdtemp(prefix="triggerapp-"))
    folder.chmod(0o711)
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
