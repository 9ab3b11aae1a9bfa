"""Retries and replacements, by Celery's means and by ours: the journal lasts over all attempts of a run."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from tests.acceptance.cluster import wait_until
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.tasks import (
    add,
    auto_retried,
    becomes,
    becomes_itself,
    plain_add,
    policy_retried,
    retries_by_hand,
    retries_with,
    total,
)
from triggerapp.models import Run

pytestmark = pytest.mark.usefixtures("on")

TRIES = ["step", "try 0", "try 1", "try 2"]


def test_self_retry_counts_attempts_and_not_segments():
    tag = fresh()
    result = retries_by_hand.delay(tag)
    assert result.get(timeout=120) == [2]
    assert notes(tag) == TRIES


def test_self_retry_gives_up_with_the_tasks_error():
    result = retries_by_hand.delay(fresh(), times=9)
    with pytest.raises(KeyError, match="again"):
        result.get(timeout=120)
    assert result.state == "FAILURE"


def test_autoretry_for():
    tag = fresh()
    assert auto_retried.delay(tag).get(timeout=120) == 2
    assert notes(tag) == TRIES


def test_the_tasks_own_policy_retries_under_the_same_task_id():
    tag = fresh()
    result = policy_retried.delay(tag)
    assert result.get(timeout=120) == 3
    assert Run.objects.get(task_id=result.id).attempts.count() == 3


def test_retries_within_a_chain_and_a_chord():
    chained = chain(retries_by_hand.s(fresh(), times=1), total.s())
    chorded = chord([auto_retried.s(fresh(), times=1), add.s(1, 1)], total.s())
    results = [chained.delay(), chorded.delay()]
    assert [result.get(timeout=120) for result in results] == [1, 3]


def test_retry_with_other_arguments():
    """Trap 21: `retry` looks at the signature of `run`, to tell positional from named arguments."""
    tag = fresh()
    assert retries_with.delay(tag, 2).get(timeout=120) == "abb"
    assert notes(tag) == [[2, "a"], [1, "ab"], [0, "abb"]]


def test_replaced_by_a_task_a_chain_and_a_group():
    """Trap 2: `replace` uses the task id again, for another task."""
    replaced = [
        becomes.delay(add.s(1, 2)),
        becomes.delay(plain_add.s(1, 3)),
        becomes.delay(chain(add.s(1, 1), add.s(3))),
        becomes.delay(group(add.s(1, 1), add.s(2, 2))),
    ]
    assert [result.get(timeout=120) for result in replaced[:3]] == [3, 4, 5]
    assert replaced[3].get(timeout=120) == [2, 4]


def test_replaced_within_a_chain_and_a_chord():
    chained = chain(becomes.s(add.s(1, 1)), add.s(10)).delay()
    chorded = chord([becomes.s(add.s(1, 1)), add.s(2, 2), becomes.s(plain_add.s(3, 3))], total.s()).delay()
    assert chained.get(timeout=120) == 12
    assert chorded.get(timeout=120) == 12


def test_replaced_by_itself_again_and_again():
    result = becomes_itself.delay(3)
    assert result.get(timeout=120) == 3
    assert sorted(Run.objects.filter(task_id=result.id).values_list("nesting", flat=True)) == [0, 1, 2, 3]


def test_a_replaced_task_is_replaced_once():
    """The frozen signature of a replacement is delivered under the same id: no delivery runs it twice."""
    tag = fresh()
    result = becomes.delay(becomes.s(add.s(2, 2), tag=tag), tag=tag)
    assert result.get(timeout=120) == 4
    wait_until(lambda: Run.objects.filter(task_id=result.id, finished_at=None).count() == 0)
    assert notes(tag) == [0, 1]
