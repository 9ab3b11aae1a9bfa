"""A worker that lost its run writes nothing; and the checker would see it if it did."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.lane import Lane


@pytest.fixture
def lane(make_lane: Callable[..., Lane]) -> Lane:
    """A lane whose second worker keeps its run also where it stands still for a moment."""
    return make_lane(FAULTS_LEASE="6")


def test_a_worker_that_was_stopped_too_long_changes_nothing_when_it_comes_back(lane: Lane) -> None:
    report = lane.play("zombies:play", fenced=True)
    assert all(report["steps"]), report
    assert report["ends"] == ["ignored", "succeeded"], report["log"]
    assert report["violations"] == []
    assert (report["status"], report["result"]["state"]) == ("completed", "SUCCESS")


def test_the_checker_sees_a_build_without_fencing(lane: Lane) -> None:
    report = lane.play("zombies:play", fenced=False)
    assert all(report["steps"]), report
    assert any("ran again after it was recorded" in each for each in report["violations"]), report["log"]
