"""The API's list of runs among very many: no filter reads the whole table."""

from __future__ import annotations

import pytest
from django.http import QueryDict

from tests import plans
from tests.api.conftest import Api
from tests.factories import make_run
from triggerapp.api import queries, schemas
from triggerapp.engine import environments, keys
from triggerapp.models import Batch, BatchItem, Status

pytestmark = pytest.mark.slow
VALUES = {
    "filter[status]": ("FAILED", "CANCELED", "WAITING,EXECUTING", "QUEUED,DELAYED", "COMPLETED", "EXPIRED,CRASHED"),
    "filter[taskIdentifier]": ("shop.task1", "shop.rare", "shop.rare,shop.rarer"),
    "filter[tag]": ("rare", "rare,rarer"),
    "filter[queue]": ("tests", "task/none"),
    "filter[isTest]": ("true", "false"),
    "filter[createdAt][from]": ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
    "filter[createdAt][to]": ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
    "filter[createdAt][period]": ("1h", "30d"),
    "filter[schedule]": ("sched_0192f000-0000-7000-8000-000000000000",),
}
NO_BATCH = "batch_0192f000-0000-7000-8000-000000000000"
OTHERS = ("version", "machine", "region", "bulkAction", "error")


@pytest.fixture
def batch(database):
    plans.filled()
    made = Batch.objects.create(environment_id=environments.current(), run_count=1)
    BatchItem.objects.create(batch=made, index=0, run=make_run(Status.COMPLETED).id)
    return f"batch_{made.id}"


def test_no_filter_of_the_list_reads_all_of_very_many_runs(batch):
    values = {**VALUES, "filter[batch]": (batch, NO_BATCH), **{f"filter[{name}]": ("x",) for name in OTHERS}}
    assert set(values) == {name for name in schemas.QUERIES["RunList"] if name.startswith("filter")}
    cursor = queries.page(queries.runs(environments.current(), {}), {"page[size]": "3"}, time="created_at").next
    pages = [{}, {"page[after]": cursor}, {"page[before]": cursor}]
    for name, texts in values.items():
        pages += [{name: text} for text in texts] + [{name: texts[0], "page[after]": cursor}]
    for params in pages:
        query = QueryDict(mutable=True)
        query.update(params)
        with plans.noted() as made:
            queries.page(queries.runs(environments.current(), query), query, time="created_at")
        if made:  # a filter that nothing can pass asks for nothing
            plans.assert_none_reads_all(made)


def test_no_look_at_queues_reads_all_of_very_many_runs(batch):
    api = Api(keys.create("dev", "tests").text)
    with plans.noted() as made:
        assert api.get("/api/v1/queues").body["data"]  # of all queues that tests have made, the first page
        assert api.get("/api/v1/queues/tests?type=custom").body["running"] == 1
    plans.assert_none_reads_all(made)
