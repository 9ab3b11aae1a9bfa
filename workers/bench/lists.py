"""The list of runs among very many, by each of its filters: how long a page takes, and whether it reads the table."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import urlencode
from uuid import UUID

from django.db import connection
from django.test import Client

from triggerapp.clock import now
from triggerapp.engine import environments, queues, sql
from triggerapp.models import Batch, Schedule
from triggerapp.models.runs import new_id
from workers.bench import asking, plans, viewers
from workers.bench.asking import Headers
from workers.bench.report import Figure
from workers.bench.stage import BenchError

_MOST_MS = 200.0
_LABEL = 24
_TABLE = "triggerapp_run"
_VERSION = "20261122.1"
_COLUMNS = (
    "id task_id environment_id queue_id task status message payload tags version parent_id root_id "
    "created_at started_at finished_at delivered"
).split()
_MEMBERS = """
INSERT INTO triggerapp_batchitem (batch_id, index, run)
SELECT %(batch)s, row_number() OVER (), id FROM (SELECT id FROM triggerapp_run ORDER BY created_at LIMIT 100) r
"""
_FIRINGS = """
INSERT INTO triggerapp_firing (schedule_id, due_at, run)
SELECT %(schedule)s, created_at, id FROM (SELECT id, created_at FROM triggerapp_run ORDER BY created_at LIMIT 100) r
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One page of a list."""

    name: str
    path: str
    headers: Headers


def measure(port: int, key: str, *, runs: int, count: int) -> list[Figure]:
    """A page by each filter, of the API's list and of the dashboard's."""
    batch, schedule = load(runs)
    times: list[float] = []
    found: list[Figure] = []
    scanning = 0
    with viewers.cookie() as cookie:
        for asked in (*_of_api(batch, schedule, key), *_of_dashboard(batch, schedule, cookie)):
            each = asking.spread(port, asked.path, asked.headers, count=count)
            scans = _scans(asked)
            times, scanning = times + each, scanning + scans
            found.append(_slow(f"{asked.name}, {'READS ALL RUNS' if scans else 'by indexes'}: p95", each))
    median = Figure(name="all filters: p50", value=1000 * statistics.median(times), unit="ms", lower_is_better=True)
    found += [median, _slow(f"list among {runs:,} runs, all filters: p95", times)]
    return [*found, Figure(name="filters that read all runs", value=scanning, target=0, lower_is_better=True)]


def _slow(name: str, times: list[float]) -> Figure:
    p95 = statistics.quantiles(times, n=20, method="inclusive")[-1]
    return Figure(name=name, value=1000 * p95, unit="ms", target=_MOST_MS, lower_is_better=True)


def _scans(asked: Asked) -> bool:
    """Whether a statement of this request reads all runs; asked in this process, where the plans can be had."""
    with plans.noted() as statements:
        answer = Client().get(asked.path, headers={**asked.headers, "Host": "127.0.0.1"}, secure=True)
    if answer.status_code != HTTPStatus.OK:
        raise BenchError(f"{asked.path} was answered with {answer.status_code}: {answer.content[:300]!r}")
    return any(_TABLE in plans.scanned(each) for each in statements)


def _of_api(batch: UUID, schedule: UUID, key: str) -> Iterator[Asked]:
    headers = {"Authorization": f"Bearer {key}"}
    filters = {
        "status": ("FAILED,CRASHED", "WAITING,EXECUTING", "QUEUED,DELAYED", "CANCELED", "COMPLETED"),
        "taskIdentifier": ("shop.task7", "shop.none"),
        "tag": ("user_77", "none"),
        "queue": ("orders", "none"),
        "batch": (f"batch_{batch}",),
        "schedule": (f"sched_{schedule}",),
        "isTest": ("false",),
        "version": (_VERSION,),
        "createdAt][period": ("1h",),
        "createdAt][from": (f"{now() - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",),
        "createdAt][to": ("2020-01-01T00:00:00Z",),
    }
    for name, values in {"": ("",), **filters}.items():
        for value in values:
            query = urlencode({f"filter[{name}]": value})
            label = f"API, {name.replace('][', ' ') or 'all'} {value[:_LABEL]}".strip()
            yield Asked(name=label, path=f"/api/v1/runs?{query}", headers=headers)


def _of_dashboard(batch: UUID, schedule: UUID, cookie: str) -> Iterator[Asked]:
    filters: Sequence[tuple[str, object]] = (
        ("status", ["failed", "crashed", "timed_out"]),
        ("status", ["waiting", "running"]),
        ("status", "completed"),
        ("task", "shop.none"),
        ("tag", "none"),
        ("queue", "none"),
        ("version", _VERSION),
        ("root", "1"),
        ("text", "0192f000"),
        ("text", "bench-77"),
        ("batch", batch),
        ("schedule", schedule),
        ("period", "1h"),
    )
    for name, value in (("", ""), *filters):
        query = urlencode({"period": "all", **({name: value} if name else {})}, doseq=True)
        shown = ",".join(value) if isinstance(value, list) else str(value)
        label = f"dashboard, {name or 'all'} {shown[:_LABEL]}".strip()
        yield Asked(name=label, path=f"/triggers/runs/?{query}", headers={"Cookie": cookie})


def load(count: int) -> tuple[UUID, UUID]:
    """So many runs, one a second up to now, most of them completed; a batch and a schedule have the oldest ones."""
    environment = environments.by_slug("dev")
    batch = Batch.objects.create(environment_id=environment, run_count=100)
    schedule = Schedule.objects.create(
        environment_id=environment, task="shop.task7", cron="0 9 * * *", deduplication_key="bench"
    )
    rows = _rows(count, environment, queues.identify(environment, "orders"), now())  # the connection copies meanwhile
    with connection.cursor() as cursor, cursor.copy(f"COPY {_TABLE} ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    sql.run(_MEMBERS, {"batch": batch.pk})
    sql.run(_FIRINGS, {"schedule": schedule.pk})
    sql.run("ANALYZE")
    return batch.pk, schedule.pk


def _rows(count: int, environment: int, queue: int, end: datetime) -> Iterator[tuple[object, ...]]:
    root = new_id()
    for number in range(count):
        at, run = end - timedelta(seconds=count - number), new_id()
        above = root if number % 10 else None
        root = root if number % 10 else run
        status = _status(number)
        over = None if status == "waiting" else at
        own = (run, f"bench-{number}", environment, queue, f"shop.task{number % 50}", status, "{}", b"x")
        labels = ([f"user_{random.randrange(1000)}"], None if number % 5000 else _VERSION)
        yield (*own, *labels, above, above, at, at, over, over is not None)


def _status(number: int) -> str:
    if number % 100_000 == 1:
        return "waiting"
    return "failed" if number % 1000 == 0 else "canceled" if number % 1777 == 0 else "completed"
