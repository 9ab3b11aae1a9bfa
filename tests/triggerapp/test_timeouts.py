"""Time limits as Celery is given them, and runs that one has killed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.factories import fresh, make_message, make_run, make_worker
from tests.inprocess import durable, messages
from triggerapp.engine import timeouts
from triggerapp.models import Run, Status

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"max_duration": timedelta(seconds=2)}, [32, None]),
        ({"max_duration": timedelta(seconds=2), "time_limit": 5, "soft_time_limit": 3}, [5, 3]),
        ({"max_duration": timedelta(minutes=2), "time_limit": 500}, [150, None]),
        ({"time_limit": 5}, [5, None]),
    ],
)
def test_a_run_is_killed_only_some_time_after_its_max_duration_so_that_it_can_end_by_itself(worker, options, given):
    @durable
    def purchase() -> None: ...

    purchase.apply_async(**options)
    assert [message.headers["timelimit"] for message in messages()] == [given]


def killed(**fields) -> Run:
    run = make_run(Status.RUNNING, worker=(worker := make_worker()), **fields)
    timeouts.time_out(run.id, worker, seconds=5)
    return fresh(run)


def test_a_hard_time_limit_ends_the_run_that_the_worker_still_holds():
    other = make_run(Status.RUNNING)
    timeouts.time_out(other.id, make_worker(), seconds=5)
    assert (killed().status, fresh(other).status) == (Status.TIMED_OUT, Status.RUNNING)


def test_its_error_says_which_limit_it_was():
    limited = {"message": make_message(timelimit=[5, None]).envelope()}
    long = {"max_duration": timedelta(seconds=90)}
    own = "ran longer than its hard time limit of 5 s"
    assert [killed(**fields).error["message"] for fields in ({}, limited, {**limited, **long})] == [own] * 3
    assert killed(**long).error["message"] == (
        "computed for longer than its max_duration of 90 s, and came to no step or wait within 30 s after that"
    )
