"""How many queries each page costs: as many for many rows as for one, and no more than is written down here."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.browser import scenery
from tests.inprocess import durable
from triggerapp.dashboard import urls

MOST = {
    "runs": 10,
    "run": 19,
    "run-parts": 17,
    "newer": 6,
    "rows": 4,
    "waits": 6,
    "events": 6,
    "event": 8,
    "tasks": 4,
    "test": 7,
    "queues": 7,
    "workers": 5,
    "bulks": 5,
    "bulk": 5,
    "bulk-progress": 5,
    "webhooks": 7,
    "endpoint": 7,
    "delivery": 5,
    "destinations": 6,
    "destination": 7,
    "schedules": 6,
    "schedule": 6,
    "versions": 8,
    "variables": 7,
    "metrics": 12,
    "keys": 7,
    "tokens": 6,
    "audit": 6,
}
"""Session and user are two of them, and permissions one."""
FILES = {"run-live", "journal", "log", "download", "export"}
"""Streams and files: they are read for as long as somebody reads them."""


@durable
def greet(name: str) -> str:
    """Says hello."""
    return name


def addresses() -> dict[str, str]:
    """Of each page one that shows something, and of what pages ask for."""
    made = scenery.ordinary()
    pages = {re.sub(r"-.*", "", name): path for name, path in made.addresses().items() if name != "runs-none"}
    pages |= {"test": f"tasks/{greet.name}/test", "run": f"runs/{made.failed.pk}/", "newer": "runs/new?than="}
    pages |= {"run-parts": f"runs/{made.failed.pk}/parts", "rows": "runs/live?run="}
    return pages | {"bulk-progress": f"bulk/{made.bulk.pk}/progress"}


def test_each_page_has_its_number():
    pages = {str(each.name) for each in urls.PAGES if "GET" in getattr(each.callback, "methods", ())}
    assert pages - FILES == MOST.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", MOST)
def test_a_page_costs_no_more_queries_than_it_may_however_much_there_is(administrator, name):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            response = administrator.get(f"/triggers/{path}")
        assert response.status_code == 200
        response.close()
        return len(queries)

    path = addresses()[name]
    few = cost()
    for _ in range(3):
        scenery.ordinary()
    assert cost() == few <= MOST[name]
