"""A worker that lost its run writes nothing; and the checker would see it if it did."""

from __future__ import annotations

from tests.faults.lane import Lane


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
