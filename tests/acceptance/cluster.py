"""Real workers on a database and a broker of their own, started and ended by the tests.

`Cluster` is the place (one per test process), `Worker` one `celery worker` in it: enter it to start it, leave it
to stop it, or `kill9` it. Each has a queue, so that workers side by side do not take each other's tasks.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
from django.db import connection, connections

from triggerapp.engine import environments

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
SHARED = {
    "threads": {"ACCEPTANCE_CONF": json.dumps({"task_track_started": True})},
    "frozen": {"ACCEPTANCE_CHECKPOINT": "on"},
}
"""What the shared workers have of their own: one of them notes STARTED, the others do not."""


def wait_until(what: Callable[[], T], *, within: float = PATIENCE, reason: str = "") -> T:
    """What `what` returns, as soon as that is true; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < deadline, reason or f"not within {within} s"
        time.sleep(0.02)
    return found


class Cluster:
    """One database, three broker databases (messages, results, ledger) and a folder for logs."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.database = f"acceptance_{name}"
        self.server_url = os.environ["DATABASE_URL"]
        self.database_url = _with_path(self.server_url, self.database)
        broker = os.environ["CELERY_BROKER_URL"]
        self.broker_url, self.result_url, self.ledger_url = (_with_path(broker, str(number + n)) for n in range(3))
        self.folder = folder
        self.workers: dict[str, Worker] = {}

    def create(self) -> None:
        """An empty database; the migrations are the caller's."""
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{self.database}"')

    def drop(self) -> None:
        """End what runs in it, then remove it."""
        for worker in self.workers.values():
            worker.kill9()
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')

    def environment(self) -> dict[str, str]:
        """What a process needs to belong here."""
        return {
            "DATABASE_URL": self.database_url,
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_RESULT_BACKEND": self.result_url,
            "ACCEPTANCE_LEDGER": self.ledger_url,
            "ACCEPTANCE_STORE": str(self.folder / "store"),
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings",
            "PYTHONPATH": str(ROOT),
            "CELERY_SKIP_CHECKS": "true",  # a second of each worker's start; tests of checks have none of these workers
            "C_FORCE_ROOT": "1",  # they accept pickle
        }

    def shared(self, name: str) -> Worker:
        """The worker of this pool, or the "frozen" one, that all tests share; do not end it."""
        worker = self.workers.get(name)
        if worker is None:
            pool = "prefork" if name == "frozen" else name
            worker = self.workers[name] = Worker(self, pool=pool, name=name, env=SHARED.get(name))
            worker.start()
        worker.wait_ready()
        return worker

    @contextmanager
    def worker(
        self,
        pool: str = "prefork",
        *,
        name: str = "",
        queue: str = "",
        options: tuple[str, ...] = (),
        under: tuple[str, ...] = (),
        conf: dict[str, Any] | None = None,
        **env: str,
    ) -> Iterator[Worker]:
        """A worker for one test, gone afterwards, started by the program `under` if there is one.

        `conf` are Celery settings, `env` its environment.
        """
        name = name or f"{pool}-{os.urandom(3).hex()}"
        extra = {**env, "ACCEPTANCE_CONF": json.dumps(conf or {})}
        worker = Worker(self, pool=pool, name=name, queue=queue, options=options, under=under, env=extra)
        worker.start()
        try:
            worker.wait_ready()
            yield worker
        finally:
            worker.kill9()


class Worker:
    """A Celery worker in a session of its own, with its queue and its log."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        pool: str,
        name: str,
        queue: str = "",
        options: tuple[str, ...] = (),
        under: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.pool = pool
        self.name = name
        self.queue = queue or f"acceptance-{name}"
        self.log = cluster.folder / f"{name}.log"
        self.environment = {**os.environ, **cluster.environment(), "ACCEPTANCE_QUEUE": self.queue, **(env or {})}
        self._options = options
        self._under = under
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    @property
    def by_checkpoint(self) -> bool:
        """Whether its runs stand still at a wait, instead of being entered again after it."""
        return self.pool == "prefork" and self.environment.get("ACCEPTANCE_CHECKPOINT", "off") != "off"

    @property
    def hostname(self) -> str:
        return f"{self.name}@acceptance"

    @property
    def pid(self) -> int:
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it; `wait_ready` says when it takes tasks."""
        # fmt: off
        command = [
            *self._under,
            sys.executable, "-m", "celery", "-A", "tests.acceptance.app", "worker", "-P", self.pool, "-c", "2",
            "-Q", self.queue, "-n", self.hostname, "-E", "-l", "INFO", "--without-mingle", "--without-gossip",
            *self._options,
        ]
        # fmt: on
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=partial(_prctl, 1, int(signal.SIGKILL)),  # go with the tests, however they end
            )
        self._starts = self.text().count(" ready.")
        self._ready = False
        return self

    def wait_ready(self) -> None:
        """Return once it takes tasks."""
        if not self._ready:
            wait_until(self._is_ready, within=300, reason=f"{self.name} did not start")
            self._ready = True

    def _is_ready(self) -> bool:
        assert self.alive, f"{self.name} ended:\n{self.text()[-4000:]}"
        return self.text().count(" ready.") > self._starts

    def restart(self) -> None:
        """Another one in its place."""
        assert not self.alive
        self.start()
        self.wait_ready()

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """It and all its children."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: signal.Signals) -> None:
        """SIGTERM is a warm shutdown, SIGQUIT a cold one."""
        os.kill(self.pid, number)

    def wait(self, within: float = PATIENCE) -> int:
        """Return its exit status once it has ended."""
        assert self._process is not None
        return self._process.wait(within)

    def stop(self) -> None:
        """A warm shutdown, to the end."""
        self.signal(signal.SIGTERM)
        self.wait()

    def kill9(self) -> None:
        """As a power cut: it and all it started, at once."""
        if self._process is None:
            return
        family = self.family() if self.alive else []
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        wait_until(lambda: not any(map(_lives, family)))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Connected:
    """Within it, Django's default connection and the app's broker are the cluster's."""

    def __init__(self, cluster: Cluster) -> None:
        self.database = cluster.database
        self.patch = pytest.MonkeyPatch()
        self.urls = {"CELERY_BROKER_URL": cluster.broker_url, "CELERY_RESULT_BACKEND": cluster.result_url}

    def __enter__(self) -> None:
        for name, url in self.urls.items():  # Celery asks the environment before its own settings
            self.patch.setenv(name, url)
        self.patch.setitem(connection.settings_dict, "NAME", self.database)
        self._forget()

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
        self._forget()

    def _forget(self) -> None:
        connections.close_all()
        environments.by_slug.forget()


_prctl = ctypes.CDLL(None).prctl


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
