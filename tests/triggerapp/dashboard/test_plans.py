"""The list of runs among very many: no page reads the whole table. `MANY_RUNS=1000000` takes minutes to fill."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests import plans
from triggerapp.dashboard import figures, overviews, queries
from triggerapp.dashboard.filters import RunFilter
from triggerapp.engine import bulk, environments
from triggerapp.errors import BadInput

pytestmark = pytest.mark.slow
FILTERS = (
    {},
    {"status": ("failed",)},
    {"status": ("canceled",)},
    {"status": ("waiting", "running")},
    {"status": ("failed", "crashed", "timed_out")},
    {"task": "shop.rare"},
    {"tag": "rare"},
    {"queue": "none"},
    {"version": "none"},
    {"root": True},
    {"period": "1h"},
    {"text": "0192f000"},
    {"batch": "0192f000-0000-7000-8000-000000000000"},
    {"schedule": "0192f000-0000-7000-8000-000000000000"},
)


@pytest.fixture
def many(database):
    plans.filled()


def test_no_filter_reads_all_of_very_many_runs(many):
    with plans.noted() as made:
        for fields in FILTERS:
            queries.runs(RunFilter(**{"environment": "dev", "period": "all", **fields}))
    plans.assert_none_reads_all(made)


def test_neither_what_is_newer_nor_what_a_bulk_action_is_about_reads_all_of_very_many_runs(many):
    here = environments.current()
    old = queries.runs(RunFilter(environment="dev", period="all"), limit=10).newest
    with plans.noted() as made:
        for fields in FILTERS:
            wanted = RunFilter(**{"environment": "dev", "period": "all", **fields})
            queries.newer(wanted, old)
            queries.newer(wanted, None)
            if not wanted.text:
                bulk._count(here, wanted)
            if not wanted.text and not wanted.is_narrow:  # else all that the indexes find is looked at, for a command
                with suppress(BadInput):
                    bulk.matching(here, wanted)
    plans.assert_none_reads_all(made)


@pytest.mark.parametrize("window", figures.WINDOWS)
def test_no_figure_of_the_metrics_reads_all_of_very_many_runs(many, window):
    with plans.noted() as made:
        assert figures.ended("dev", window).total.ended
        assert figures.waiting("dev").runs == 1
        figures.restores("dev", window)
        overviews.queues("dev")
        overviews.workers()
    plans.assert_none_reads_all(made)
