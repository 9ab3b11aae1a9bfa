"""The delay before the next attempt, or that there is none."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import AbortRun, Suspend
from workers.retry import RetryPolicy


def test_without_jitter_the_delay_doubles_until_the_maximum():
    policy = RetryPolicy(max_attempts=9, jitter=False)
    delays = [policy.delay(attempt) for attempt in range(1, 9)]
    assert delays == [timedelta(seconds=seconds) for seconds in (1, 2, 4, 8, 16, 32, 60, 60)]


def test_three_attempts_by_default_so_the_third_failure_is_the_last():
    policy = RetryPolicy()
    assert policy.delay(2) is not None
    assert policy.delay(3) is None
    assert policy.delay(4) is None


@given(st.integers(1, 5000))
def test_jitter_keeps_the_delay_between_once_and_twice_the_base_and_under_the_maximum(attempt):
    policy = RetryPolicy(max_attempts=10_000)
    delay = policy.delay(attempt)
    base = timedelta(seconds=2 ** min(attempt - 1, 10))
    assert min(base, policy.max_delay) <= delay <= min(2 * base, policy.max_delay)


def test_jitter_differs_from_call_to_call():
    assert len({RetryPolicy().delay(1) for _ in range(10)}) > 1


def test_a_policy_without_delay_retries_at_once_however_often():
    policy = RetryPolicy(max_attempts=10_000, min_delay=timedelta(0))
    assert policy.delay(9_999) == timedelta(0)


def test_attempts_count_from_one():
    with pytest.raises(ValueError, match="count from 1"):
        RetryPolicy().delay(0)


def test_a_policy_wants_what_it_names_and_not_what_it_excludes():
    policy = RetryPolicy(retry_on=(OSError,), dont_retry_on=(FileNotFoundError,))
    assert policy.wants(ConnectionError())
    assert not policy.wants(FileNotFoundError())
    assert not policy.wants(ValueError())


def test_neither_an_abort_nor_a_suspension_is_retried():
    assert not RetryPolicy().wants(AbortRun("enough"))
    assert not RetryPolicy().wants(Suspend())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"factor": 0.5}, "factor must be a number from 1"),
        ({"factor": float("nan")}, "factor"),
        ({"factor": "2"}, "factor"),
        ({"min_delay": 1}, "min_delay must be a timedelta"),
        ({"min_delay": timedelta(seconds=-1)}, "min_delay must be a timedelta that is not negative"),
        ({"min_delay": timedelta(minutes=2)}, "must not exceed max_delay"),
        ({"retry_on": ValueError}, "retry_on must be a tuple of exception classes"),
        ({"retry_on": (ValueError())}, "retry_on"),
        ({"dont_retry_on": ("ValueError",)}, "dont_retry_on"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**options)


def test_a_policy_survives_pickle():
    policy = RetryPolicy(max_attempts=5, retry_on=(OSError,))
    assert pickle.loads(pickle.dumps(policy)) == policy
