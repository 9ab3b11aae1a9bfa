"""Hooks and signals: those of the end come once, at the real end; those of a segment come in pairs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.acceptance import heard
from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.nested import spawns
from tests.acceptance.tasks import add, boom, hooked, policy_retried
from tests.acceptance.trouble import ignores

pytestmark = pytest.mark.usefixtures("on")

SUSPENDED = ["prerun", "postrun IGNORED"]


def ended(tag: str) -> list[str]:
    """The hooks that ran, once the last one has."""
    wait_until(lambda: any(word.startswith("after_return") and "RETRY" not in word for word in notes(tag)))
    return notes(tag)


def test_hooks_of_a_run_that_succeeds():
    """Trap 12: `before_start` once per attempt, though Celery calls it in each segment."""
    hooked.delay(tag := fresh())
    assert ended(tag) == ["before_start", "on_success", "after_return SUCCESS"]


def test_hooks_of_a_run_that_fails():
    hooked.delay(tag := fresh(), fails=True)
    assert ended(tag) == ["before_start", "on_failure", "after_return FAILURE"]


def test_hooks_of_a_run_that_is_retried():
    hooked.delay(tag := fresh(), retries=1)
    ended(tag)
    wait_until(lambda: "on_retry" in notes(tag))
    said = notes(tag)
    # As in Celery: no `after_return` for a retry, and one due at once may begin in another slot before `on_retry`.
    assert [word for word in said if word != "on_retry"] == [
        *("before_start", "before_start", "on_success", "after_return SUCCESS"),
    ]
    assert said.count("on_retry") == 1 and said[0] == "before_start"


def test_signals_of_a_run_that_succeeds(on: Worker):
    result = add.delay(1, 1)
    assert_heard(on, result, [*SUSPENDED, "prerun", "success", "postrun SUCCESS"])


def test_signals_of_a_run_that_fails(on: Worker):
    assert_heard(on, boom.delay(), [*SUSPENDED, "prerun", "failure", "postrun FAILURE"])


def test_signals_of_a_run_that_is_retried(on: Worker):
    result = policy_retried.delay(fresh(), times=1)
    # The second attempt finds its wait in the journal: one segment.
    tries = [*("prerun", "retry", "postrun RETRY"), *("prerun", "success", "postrun SUCCESS")]
    assert_heard(on, result, [*SUSPENDED, *tries])


def assert_heard(on: Worker, result: Any, expected: list[str]) -> None:
    """These signals and no others; a wake may overtake the end of the segment before it in another slot."""
    wait_until(lambda: len(heard.of(result.id)) >= len(expected))
    found = heard.of(result.id)
    assert Counter(found) == Counter(expected)
    assert found[0] == "prerun" and found.index(expected[-2]) < found.index(expected[-1])


def test_a_childs_publishing_is_signaled_once_though_its_parent_is_entered_twice():
    result = spawns.delay(fresh())
    first, second = result.get(timeout=120)
    assert [heard.of(first).count("publish"), heard.of(second).count("publish")] == [1, 1]
    assert "publish" not in heard.of(result.id)  # that was here, and no wake publishes as a client does


def test_ignore_of_the_users_ends_the_run():
    result = ignores.delay(tag := fresh())
    wait_until(lambda: heard.of(result.id).count("postrun IGNORED") == 2)
    assert notes(tag) == ["entered"]
    assert "success" not in heard.of(result.id)
