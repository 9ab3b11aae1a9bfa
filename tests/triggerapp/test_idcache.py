"""Ids that are kept for the life of a process: only those of rows that are there to stay."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from triggerapp.engine import idcache, queues
from triggerapp.models import Environment, Queue

pytestmark = pytest.mark.usefixtures("database")


def dev() -> int:
    return Environment.objects.get_or_create(slug="dev")[0].pk


def test_within_a_transaction_what_was_committed_before_is_not_asked_for_again():
    environment = dev()
    with transaction.atomic():
        found = queues.identify(environment, "orders")
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert queues.identify(environment, "orders") == found
    assert [query["sql"] for query in queries if "triggerapp_queue" in query["sql"]] == []


def test_what_is_rolled_back_is_made_again():
    environment = dev()
    with pytest.raises(RuntimeError), transaction.atomic():
        queues.identify(environment, "orders")
        raise RuntimeError
    again = queues.identify(environment, "orders")
    assert Queue.objects.get(pk=again).name == "orders"


def test_names_without_end_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(idcache, "_MOST", 3)
    environment = dev()
    found = {name: queues.identify(environment, name) for name in "abcdefgh"}
    assert len(queues.identify._known) <= 3
    assert {name: queues.identify(environment, name) for name in found} == found
