"""Who comes first wins, the others see it, and nobody is missed: thousands of times at the same moment."""

from __future__ import annotations

import os

import pytest

from tests.faults.lane import Lane

RACES = int(os.environ.get("FAULTS_RACES", "2000"))
THREE_WAY = int(os.environ.get("FAULTS_RACES", "1000"))
"""Three processes and a longer way each. With FAULTS_RACES=20000 both take eight minutes on a quiet machine."""

pytestmark = pytest.mark.slow


def test_no_event_is_lost_that_comes_as_its_wait_is_opened(lane: Lane) -> None:
    report = lane.play("races:opening_against_event", races=RACES, locked=True)
    assert report["opened"] == RACES
    assert (report["unmet"], report["asleep"], report["twice"]) == (0, 0, 0)
    assert report["found"] + report["met"] >= RACES
    assert min(report["found"], RACES - report["found"]) > RACES / 1000  # both were first often enough
    assert report["violations"] == []


def test_the_race_is_lost_without_the_lock(lane: Lane) -> None:
    report = lane.play("races:opening_against_event", races=500, locked=False)
    assert report["unmet"] > 0


def test_event_deadline_and_cancel_have_one_winner(lane: Lane) -> None:
    report = lane.play("races:event_against_deadline_against_cancel", races=THREE_WAY)
    assert report["winners"] == {"1": THREE_WAY}
    assert set(report["waits"]) == {"resolved", "timed_out", "canceled"}
    assert min(report["waits"].values()) > THREE_WAY / 1000
    assert (report["asleep"], report["twice"]) == (0, 0)
    assert report["violations"] == []
