"""Webhooks whose server dies on the way: nothing or all of it is stored, and the next try tells which."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError

from tests.triggerapp import signing
from tests.triggerapp.hooks import endpoint, post
from triggerapp import failpoints
from triggerapp.engine import deliveries, events
from triggerapp.failpoints import FailpointError
from triggerapp.models import Delivery, Event

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize("where", ["hook.verified", "event.locked", "event.before_commit", "hook.before_commit"])
def test_what_dies_before_the_commit_leaves_nothing_and_is_accepted_next_time(where):
    endpoint()
    sent = signing.standard({"n": 1})
    failpoints.load(f"{where}:raise@1")
    try:
        with pytest.raises(FailpointError):
            deliveries.receive("dev", "hook", deliveries.Request(headers=sent.headers, body=sent.body))
    finally:
        failpoints.load("")
    assert not Delivery.objects.exists()
    assert not Event.objects.exists()
    assert post(sent)[1]["duplicate"] is False


def test_what_dies_after_the_commit_is_a_duplicate_next_time():
    endpoint()
    sent = signing.standard({"n": 1})
    failpoints.load("hook.after_commit:raise@1")
    try:
        with pytest.raises(FailpointError):
            deliveries.receive("dev", "hook", deliveries.Request(headers=sent.headers, body=sent.body))
    finally:
        failpoints.load("")
    assert post(sent)[1]["duplicate"] is True


def test_a_database_that_is_away_is_a_503(monkeypatch):
    endpoint()

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(events, "_emit", away)
    status, answer = post(signing.standard({}))
    assert (status, answer["code"]) == (503, "database_unavailable")
