"""Every failpoint of a reference run, at every occurrence: the worker is killed there, and another takes over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import pytest

from tests.faults.lane import Lane

LANES = 7
"""A scenario waits most of its time; more of them than this keep processors from other tests, and gain nothing."""
STUCK = 2.0 + 5.0
"""Seconds: the lease of these tests, and what the contract allows beyond it."""
WORST, REPLAYS = 6, 5
"""How many that were stuck are played again, and how often: on a machine that is busy any may seem so."""
LATE_REPLAYS = 3
"""How often those are played again in which the run ended before the fault."""
UNREACHED = 0.05
"""The share whose occurrence need not come: on a busy machine every recorded run had one message more than these."""

CLIENT = (
    "trigger.before_commit trigger.after_commit dispatch.before_send dispatch.after_send "
    "event.locked event.before_commit event.after_commit wake.before_commit wake.after_commit"
).split()
"""What a client passes while it triggers a run or sends an event."""
UNSENT = "dispatch.before_send:kill9"
"""A client that dies of this leaves a run whose message nobody has sent: a ticker has to."""
RESENDS = ("ticker/resend.before_commit", "ticker/resend.after_commit")
"""Without that a message is sent again only where it lay for long, as on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One scenario of the sweep."""

    fails: bool
    fault: str = ""
    client_fault: str = ""

    def may_be_unreached(self) -> bool:
        """Whether it is a later occurrence, or that of an end told late: how many there are depends on the machine."""
        return bool(self.fault) and (not self.fault.endswith("@1") or "/redeliver." in self.fault)


@pytest.fixture(scope="module")
def lanes(make_lane: Callable[[], Lane]) -> list[Lane]:
    return [make_lane() for _ in range(LANES)]


def play(lanes: list[Lane], scenarios: list[Planned]) -> Iterator[tuple[Planned, dict[str, Any]]]:
    """Play all scenarios, as many at a time as there are lanes."""
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def one(planned: Planned) -> tuple[Planned, dict[str, Any]]:
        lane = free.get()
        try:
            return planned, lane.play(
                "sweep:play", fails=planned.fails, fault=planned.fault, client_fault=planned.client_fault
            )
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        yield from pool.map(one, scenarios)


def occurrences(lanes: list[Lane], *, fails: bool) -> Counter[str]:
    """How often the worker's processes pass each failpoint, in every run without a fault at least."""
    passes = [Counter(report["counts"]) for _, report in play(lanes, [Planned(fails=fails)] * max(3, len(lanes)))]
    fewest = passes[0]
    for each in passes[1:]:
        fewest &= each
    return fewest


def plan(completing: Counter[str], failing: Counter[str]) -> list[Planned]:
    """The worker killed at each occurrence; one process alone at the first of each; clients killed too."""
    completing, failing = (
        Counter({name: count for name, count in passed.items() if name not in RESENDS})
        for passed in (completing, failing)
    )
    return [
        *(
            Planned(fails=False, fault=f"{name}:kill9worker@{n + 1}")
            for name in completing
            for n in range(completing[name])
        ),
        *(
            Planned(fails=True, fault=f"{name}:kill9worker@{n + 1}")
            for name in failing
            for n in range(completing[name], failing[name])
        ),
        *(Planned(fails=True, fault=f"{name}:kill9@1") for name in failing),
        *(Planned(fails=False, client_fault=f"{name}:kill9") for name in CLIENT),
        *(
            Planned(fails=True, fault=f"{name}:{how}@1", client_fault=UNSENT)
            for name in RESENDS
            for how in ("kill9worker", "kill9")
        ),
    ]


def test_a_run_survives_a_kill_at_every_failpoint(lanes: list[Lane]) -> None:
    scenarios = plan(occurrences(lanes, fails=False), occurrences(lanes, fails=True))
    assert len(scenarios) > 150
    assert_survived(lanes, scenarios)


def assert_survived(lanes: list[Lane], scenarios: list[Planned]) -> None:
    """Every fault happens; no run is lost, no step changed, and nothing waits longer than the contract allows."""
    reports = list(play(lanes, scenarios))
    for _ in range(LATE_REPLAYS):
        late = [planned for planned, report in reports if not report["fired"]]
        reports = [each for each in reports if each[1]["fired"]] + list(play(lanes, late))
    unreached = [planned for planned, report in reports if not report["fired"]]
    assert [planned for planned in unreached if not planned.may_be_unreached()] == []
    assert len(unreached) <= UNREACHED * len(scenarios), unreached
    assert [(planned, report["lost"]) for planned, report in reports if report["lost"]] == []
    wrong = [(planned, report["violations"], report["log"]) for planned, report in reports if report["violations"]]
    assert not wrong, "\n\n".join(f"{planned}\n{violations}\n{log}" for planned, violations, log in wrong[:3])
    reports.sort(key=lambda each: each[1]["pause"], reverse=True)
    slow = [planned for planned, report in reports if report["pause"] > STUCK][:WORST]
    # Many lanes share few processors: what was slow is played again by itself, and a run that is stuck stays stuck.
    for _ in range(REPLAYS):
        slow = [planned for planned, again in play(lanes[:1], slow) if again["pause"] > STUCK]
    assert slow == []
