"""What a scenario plays in: a clean database and broker, a ledger, workers to start and kill, clients.

The lane's own process looks at the database through connections of its own and never through the product's.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from tests.faults import checker, client, database, ledger, processes

_numbers = count(1)
_NEEDED = """
billiard.heap billiard.popen_fork billiard.sharedctypes billiard.synchronize celery.apps.worker celery.backends.redis
celery.bin.celery celery.bin.worker celery.concurrency.prefork celery.events.state celery.worker.autoscale
celery.worker.consumer celery.worker.control celery.worker.loops celery.worker.strategy kombu.transport.redis
workers.control workers.executor workers.reports workers.ticker
"""


class World:
    """One scenario's world; making it clears what the one before left."""

    def __init__(self, folder: Path, ask: Callable[[str], None]) -> None:
        self.ask = ask
        self.number = next(_numbers)
        self.folder = folder
        self.log = folder / f"{self.number}.log"
        self.other_log = folder / f"{self.number}.other.log"
        for log in (self.log, self.other_log):
            log.touch()
        self.ledger = folder / f"{self.number}.ledger"
        self.once = folder / f"{self.number}.fired"
        self.counts = folder / f"{self.number}.counts"
        self.url = os.environ["DATABASE_URL"]
        os.environ[ledger.PATH] = str(self.ledger)
        database.forget(self.url)
        for server in self.redis():
            server.flushdb()
        self.connection = database.connect(self.url)

    @staticmethod
    def warm_up() -> None:
        """Import what workers and clients need, so that they are forked with it."""
        for name in _NEEDED.split():
            import_module(name)
        from tests.faults.tasks import app

        app.finalize()
        app.loader.import_default_modules()
        assert app.amqp and app.backend  # made now, connected later
        gc.freeze()

    def redis(self) -> list[redis.Redis]:
        """The broker and the result backend."""
        from django.conf import settings

        urls = (settings.CELERY_BROKER_URL, settings.CELERY_RESULT_BACKEND)
        return [redis.Redis.from_url(url) for url in urls]

    def worker(
        self, *options: str, fail: str = "", log: Path | None = None, before: Callable[[], object] = lambda: None
    ) -> int:
        """Start a worker; its pid."""
        options = options or ("-P", "prefork", "-c", "1")
        return processes.worker(f"w{next(_numbers)}", *options, fail=fail, log=log or self.log, before=before)

    def call(self, function: str, *args: Any, fail: str = "") -> Any:
        """What a function of `client` returns, in a process of its own."""
        return processes.call(getattr(client, function), *args, fail=fail, log=self.log)

    def rows(self, query: str, *params: object) -> list[dict[str, Any]]:
        """Look at the database; it may be away meanwhile."""
        while True:
            try:
                return self.connection.cursor(row_factory=dict_row).execute(query, params).fetchall()
            except psycopg.OperationalError:
                time.sleep(0.1)
                self._reconnect()

    def _reconnect(self) -> None:
        try:
            self.connection.close()
            self.connection = database.connect(self.url)
        except psycopg.OperationalError:
            return

    def one(self, query: str, *params: object) -> Any:
        """The one value that a query finds."""
        (row,) = self.rows(query, *params)
        (value,) = row.values()
        return value

    def live(self) -> int:
        """How many runs are not over, or over and not told to Celery."""
        return int(self.one("SELECT count(*) FROM triggerapp_run WHERE finished_at IS NULL OR NOT delivered"))

    def executions(self) -> list[ledger.Execution]:
        """What step code did."""
        return ledger.read(self.ledger)

    def at_it(self) -> int:
        """How many workers are, or were, in the step that takes until it is let go."""
        return ledger.lingering(self.ledger)

    def let_go(self, number: int) -> None:
        """Let the first or second of them go on."""
        ledger.let_go(self.ledger, number).touch()

    def violations(self, *, kills: int) -> list[str]:
        """What the checker says."""
        return checker.check(database.notes(self.url), self.executions(), kills=kills)

    def pause_since(self, moment: float) -> float:
        """Seconds of the longest time in which nothing happened."""
        since = datetime.fromtimestamp(moment, tz=UTC)
        return checker.longest_pause(database.notes(self.url), since=since).total_seconds()

    def tail(self, size: int = 6000) -> str:
        """The ends of the processes' logs."""
        return "\n".join(log.read_text(errors="replace")[-size:] for log in (self.log, self.other_log))
