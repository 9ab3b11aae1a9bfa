"""The list of runs among very many: no page reads the whole table. `MANY_RUNS=1000000` takes minutes to fill."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import contextmanager, suppress

import pytest
from django.db import connection

from tests.factories import make_run
from triggerapp.dashboard import queries
from triggerapp.dashboard.filters import RunFilter
from triggerapp.engine import bulk, environments, sql
from triggerapp.engine import queues as engine_queues
from triggerapp.errors import BadInput
from triggerapp.models import Status

pytestmark = pytest.mark.slow
MANY = int(os.environ.get("MANY_RUNS", "100000"))
FILTERS = (
    {},
    {"status": ("failed",)},
    {"status": ("canceled",)},
    {"status": ("waiting", "running")},
    {"status": ("failed", "crashed", "timed_out")},
    {"task": "shop.rare"},
    {"tag": "rare"},
    {"queue": "none"},
    {"root": True},
    {"period": "1h"},
    {"text": "0192f000"},
)
_FILL = """
INSERT INTO triggerapp_run (id, task_id, environment_id, queue_id, task, status, message, payload, created_at,
  started_at, finished_at, delivered)
SELECT gen_random_uuid(), 'many-' || n, %s, %s, 'shop.task' || n %% 50,
  CASE WHEN n %% 1000 = 0 THEN 'failed' WHEN n %% 1777 = 0 THEN 'canceled' ELSE 'completed' END,
  '{}', 'x', now() - n * interval '1 second', now(), now(), true FROM generate_series(1, %s) n
"""


@pytest.fixture
def many(database):
    environment = environments.current()
    sql.run(_FILL, [environment, engine_queues.identify(environment, "tests"), MANY])
    for status in (Status.WAITING, Status.RUNNING, Status.FAILED):
        make_run(status)
    sql.run("ANALYZE triggerapp_run")


def scanned(plan):
    """The tables that a plan reads from one end to the other."""
    found = [plan["Relation Name"]] if plan["Node Type"] in ("Seq Scan", "Parallel Seq Scan") else []
    return found + [name for part in plan.get("Plans", ()) for name in scanned(part)]


@contextmanager
def noted():
    """The statements about runs that were made meanwhile, with their parameters."""
    found = []

    def watch(execute, statement, params, many, context):
        if "triggerapp_run" in statement:
            found.append((statement, params))
        return execute(statement, params, many, context)

    with connection.execute_wrapper(watch):
        yield found


def assert_none_reads_all(statements):
    assert statements
    for statement, params in statements:
        (row,) = sql.rows(f"EXPLAIN (FORMAT JSON) {statement}", params)
        assert "triggerapp_run" not in scanned(row["QUERY PLAN"][0]["Plan"]), statement


def test_no_filter_reads_all_of_very_many_runs_and_a_page_is_there_within_a_fifth_of_a_second(many):
    times, by_filter, statements = [], {}, []
    for fields in FILTERS:
        wanted = RunFilter(**{"environment": "dev", "period": "all", **fields})
        with noted() as made:
            queries.runs(wanted)
        statements += made
        for _ in range(3):
            started = time.perf_counter()
            queries.runs(wanted)
            times.append(time.perf_counter() - started)
        by_filter[str(fields)] = round(1000 * max(times[-3:]))
    assert_none_reads_all(statements)
    p95 = statistics.quantiles(times, n=20)[-1]
    assert p95 < 1.0, by_filter  # 200 ms on a machine that does nothing else


def test_neither_what_is_newer_nor_what_a_bulk_action_is_about_reads_all_of_very_many_runs(many):
    here = environments.current()
    old = queries.runs(RunFilter(environment="dev", period="all"), limit=10).newest
    with noted() as made:
        for fields in FILTERS:
            wanted = RunFilter(**{"environment": "dev", "period": "all", **fields})
            queries.newer(wanted, old)
            queries.newer(wanted, None)
            if not wanted.text:
                bulk._count(here, wanted)
            if not wanted.text and not wanted.is_narrow:  # else all that the indexes find is looked at, for a command
                with suppress(BadInput):
                    bulk.matching(here, wanted)
    assert_none_reads_all(made)
