"""`apply()` and `task_always_eager`: no worker, waits resolve inline, timers by real sleeping.

`self.replace` is not among it: eager, plain Celery 5.7 refuses its own `get()`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from celery import chain, chord, group

from tests.acceptance.app import app
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.nested import calls_directly, parent_of
from tests.acceptance.tasks import (
    add,
    auto_retried,
    boom,
    for_event,
    hooked,
    noted,
    plain_errback,
    retries_by_hand,
    total,
)
from triggerapp.models import Run
from workers import events


@pytest.fixture
def always_eager() -> Iterator[None]:
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    yield
    app.conf.update(task_always_eager=False)


def test_apply_waits_inline():
    started = time.monotonic()
    result = add.apply((1, 2), {"pause": 0.2})
    assert result.get() == 3 and result.state == "SUCCESS"
    assert time.monotonic() - started >= 0.2


def test_apply_of_a_run_that_waits_for_an_event():
    tag = fresh()
    events.send("go", {"tag": tag, "value": "before"})
    assert for_event.apply((tag,)).get() == "before"


def test_apply_that_fails_and_apply_that_retries():
    assert boom.apply().state == "FAILURE"
    with pytest.raises(ValueError, match="boom"):
        boom.apply(throw=True)
    assert retries_by_hand.apply((tag := fresh(),)).get() == [2]
    assert auto_retried.apply((fresh(),)).get() == 2
    assert notes(tag)[-1] == "try 2"


def test_hooks_and_links_of_apply():
    tag, links, errors = fresh(), fresh(), fresh()
    assert hooked.apply((tag,), link=noted.s(links)).get() == "done"
    assert notes(tag) == ["before_start", "on_success", "after_return SUCCESS"]
    hooked.apply((tag2 := fresh(),), {"fails": True}, link_error=plain_errback.s(errors))
    assert notes(tag2) == ["before_start", "on_failure", "after_return FAILURE"]


@pytest.mark.usefixtures("always_eager")
def test_always_eager_canvas():
    assert add.delay(1, 1).get() == 2
    assert chain(add.s(1, 1), add.s(2)).delay().get() == 4
    assert group(add.s(1, 1), add.s(2, 2)).delay().get() == [2, 4]
    assert chord([add.s(1, 1), add.s(2, 2)], total.s()).delay().get() == 6
    assert retries_by_hand.delay(fresh()).get() == [2]


@pytest.mark.usefixtures("always_eager")
def test_always_eager_children_and_direct_calls():
    assert parent_of.delay(tag := fresh(), 0.1).get() == f"{tag}:child"
    inner, applied, _ = calls_directly.delay(1).get()
    assert (inner, applied) == (2, 3)


def test_no_ticker_touches_an_eager_run():
    result = add.apply((1, 1))
    run = Run.objects.get(task_id=result.id)
    assert run.is_eager and run.status == "completed" and run.delivered
