"""Servers that fail and processes that die, one at a time, under runs at work."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.lane import Lane
from tests.faults.test_sweep import REPLAYS, STUCK
from triggerapp.services import Services


@pytest.fixture
def lane(lane: Lane, servers: Services) -> Lane:
    """A lane whose scenarios may stop the servers."""
    lane.helps = {
        "kill broker": servers.valkey.kill,
        "start broker": servers.valkey.start,
        "kill database": servers.postgres.kill,
        "start database": servers.postgres.start,
    }
    return lane


def assert_taken_over(lane: Lane, scenario: str) -> dict[str, Any]:
    """The run ends well. A long pause is played again: on a busy machine any is long, one that is stuck stays so."""
    for _ in range(REPLAYS):
        report: dict[str, Any] = lane.play(scenario)
        assert report["ended"], report["log"]
        assert report["told"]["state"] == "SUCCESS"
        assert report["violations"] == []
        if report["pause"] <= STUCK:
            return report
    raise AssertionError(f"nothing happened for {report['pause']} s")


def assert_all_ended(report: dict[str, Any]) -> None:
    assert report["ended"], (report["statuses"], report["log"])
    assert set(report["statuses"]) == {"completed"}, (report["statuses"], report["log"])
    assert report["alive"], report["log"]
    assert report["untold"] == [], report["log"]
    assert report["violations"] == [], report["log"]


def test_nothing_is_lost_when_the_broker_is_emptied_under_200_runs(lane: Lane) -> None:
    report = lane.play("outages:flushed", runs=200)
    assert report["steps"] == [True, True, True], report["log"]
    assert (report["lost"], report["untold"], report["violations"]) == (0, [], []), report["log"]


def test_runs_go_on_after_the_broker_was_killed_and_restarted(lane: Lane) -> None:
    # The worker itself may die of it: kombu 5.7 cannot close a lost connection that has prefetched messages.
    assert_all_ended(lane.play("outages:carry_on", stop="kill broker", start="start broker", down=2.0))


def test_runs_go_on_after_the_database_was_killed_and_restarted(lane: Lane) -> None:
    report = lane.play("outages:carry_on", stop="kill database", start="start database", down=4.0)
    assert_all_ended(report)
    assert not report["died"]
    assert report["crashes"] == 0, report["log"]  # nothing died but the database


def test_a_run_triggered_while_the_broker_is_down_is_accepted_and_sent_later(lane: Lane) -> None:
    report = lane.play("outages:trigger_during", stop="kill broker", start="start broker")
    assert report["seen"]["error"] is None, report["log"]
    assert report["accepted"] == 1 and report["ended"], report["log"]
    assert report["told"]["state"] == "SUCCESS"


def test_a_trigger_while_the_database_is_down_fails_clearly_and_sends_nothing(lane: Lane) -> None:
    report = lane.play("outages:trigger_during", stop="kill database", start="start database")
    assert (report["seen"]["error"] or "").startswith("DatabaseUnavailable: "), report["seen"]
    assert (report["accepted"], report["sent"]) == (0, 0)


def test_a_poisonous_run_crashes_for_good_and_others_do_not(lane: Lane) -> None:
    report = lane.play("outages:poison", others=10)
    assert report["ended"] and report["alive"], report["log"]
    assert report["poisoned"] == {"status": "crashed", "crashes": 3, "attempt": 3}
    assert report["tries"] == 3
    assert report["told"]["state"] == "FAILURE" and "WorkerLost" in report["told"]["value"]
    assert report["good"] == ["SUCCESS"] * 10
    assert report["violations"] == []


def test_a_run_goes_on_when_its_pool_process_is_killed(lane: Lane) -> None:
    report = assert_taken_over(lane, "outages:pool_process_killed")
    assert report["alive"], report["log"]


def test_a_run_that_is_canceled_between_two_steps_begins_no_other(lane: Lane) -> None:
    report = lane.play("outages:canceled")
    assert report["canceled"] and report["left"] and report["violations"] == [], report["log"]
    assert report["after"] == report["before"], report["log"]


def test_an_orphan_of_a_killed_worker_changes_nothing(lane: Lane) -> None:
    report = assert_taken_over(lane, "outages:main_process_killed")
    assert report["gone"], report["log"]
