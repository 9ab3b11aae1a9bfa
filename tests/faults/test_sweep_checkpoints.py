"""Every failpoint on the way into an image and out of it: a process, or the whole worker, is killed there."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests import criu
from tests.faults.lane import Lane
from tests.faults.test_sweep import Planned, assert_survived, occurrences, plan

pytestmark = pytest.mark.criu

LANES = 3
"""Each scenario starts two zygotes, which import everything anew."""
ON_THE_WAY = ("park.", "dump.", "store.", "checkpoint.", "kill.", "fetch.", "restore.", "callback.", "discard.")


@pytest.fixture(scope="module")
def lanes(make_lane: Callable[..., Lane]) -> list[Lane]:
    criu.require()
    return [make_lane(FAULTS_CHECKPOINT="on") for _ in range(LANES)]


def test_a_run_survives_a_kill_at_every_point_of_a_checkpoint(lanes: list[Lane]) -> None:
    passed = occurrences(lanes, fails=True)
    names = sorted(name for name in passed if name.partition("/")[2].startswith(ON_THE_WAY))
    scenarios = [Planned(fails=True, fault=f"{name}:{how}@1") for name in names for how in ("kill9", "kill9worker")]
    assert len(scenarios) >= 20
    assert_survived(lanes, scenarios)


@pytest.mark.skipif("FAULTS_SWEEP" not in os.environ, reason="takes an hour; FAULTS_SWEEP=all")
def test_the_whole_sweep_with_every_wait_by_checkpoint(lanes: list[Lane]) -> None:
    assert_survived(lanes, plan(occurrences(lanes, fails=False), occurrences(lanes, fails=True)))
