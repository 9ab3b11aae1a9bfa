"""Every failpoint on the way into an image and out of it: a process, or the whole worker, is killed there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from itertools import cycle

import pytest

from tests import criu
from tests.faults.lane import Lane
from tests.faults.test_sweep import Planned, assert_survived, occurrences, plan

pytestmark = pytest.mark.criu

LANES = 7 if "FAULTS_SWEEP" in os.environ else 3
"""Each scenario starts two zygotes, which import everything anew: other tests beside are to come to something too."""
ON_THE_WAY = ("park.", "dump.", "store.", "checkpoint.", "kill.", "fetch.", "restore.", "callback.", "discard.")
HOW = ("kill9worker", "kill9")
"""The points take turns; each in both ways is for the whole sweep."""


@pytest.fixture(scope="module")
def lanes(make_lane: Callable[..., Lane]) -> list[Lane]:
    criu.require()
    return [make_lane(FAULTS_CHECKPOINT="on") for _ in range(LANES)]


def points(passed: Counter[str]) -> list[str]:
    """The failpoints of a checkpoint among all that were passed."""
    return sorted(name for name in passed if name.partition("/")[2].startswith(ON_THE_WAY))


def test_a_run_survives_a_kill_at_every_point_of_a_checkpoint(lanes: list[Lane]) -> None:
    names = points(occurrences(lanes, fails=True))
    assert len(names) >= 10
    assert_survived(lanes, [Planned(fails=True, fault=f"{name}:{how}@1") for name, how in zip(names, cycle(HOW))])


@pytest.mark.skipif("FAULTS_SWEEP" not in os.environ, reason="takes an hour; FAULTS_SWEEP=all")
def test_the_whole_sweep_with_every_wait_by_checkpoint(lanes: list[Lane]) -> None:
    completing, failing = occurrences(lanes, fails=False), occurrences(lanes, fails=True)
    both = [Planned(fails=True, fault=f"{name}:{how}@1") for name in points(failing) for how in HOW]
    assert_survived(lanes, [*both, *plan(completing, failing)])
