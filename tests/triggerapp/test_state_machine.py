"""Whatever is done to runs, in whatever order: what must always hold, holds."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from tests.factories import delete_everything, for_event, make_trigger, make_worker, timer
from tests.inprocess import forward
from triggerapp.engine import events, queues, rescue, runs, steps, triggers, verbs, waits, wakes
from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Opening
from triggerapp.errors import IllegalMove, StaleRun
from triggerapp.models import FINAL, Attempt, Run, Status, Wait, WaitKind, WaitStatus
from triggerapp.models.moves import MOVES

ERROR = {"type": "builtins:ValueError", "message": "no", "traceback": "", "steps": []}


class RunsInAnyOrder(RuleBasedStateMachine):
    """Workers, people, events and ticks act on a handful of runs."""

    triggered = Bundle("triggered")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.worker = make_worker()
        self.runs: dict[UUID, tuple[Status, int]] = {}
        self.waits: dict[UUID, tuple[str, str | None]] = {}
        self.retried: set[UUID] = set()
        self.keys = 0

    def teardown(self) -> None:
        delete_everything()

    # -- what happens ----------------------------------------------------------------------------

    @initialize(target=claims)
    def begin_with_runs_that_run(self) -> object:
        found = [triggers.trigger(make_trigger()).run_id for _ in range(2)]
        return multiple(*(self._claim(run, 0) for run in found))

    @rule(target=claims, claim=claims)
    def another_worker_takes_over(self, claim: tuple[UUID, int]) -> object:
        rescue.rescue_lost([claim[0]], self.worker)
        return self._claim(claim[0], Run.objects.get(pk=claim[0]).lease)

    @rule(target=claims, claim=claims)
    def it_goes_on(self, claim: tuple[UUID, int]) -> object:
        self.time_passes_and_ticks_come(hours=3)
        return self._claim(claim[0], Run.objects.get(pk=claim[0]).lease)

    @rule(
        target=triggered, delay=st.sampled_from([None, timedelta(hours=1)]), ttl=st.sampled_from([None, timedelta(1)])
    )
    def trigger(self, delay: timedelta | None, ttl: timedelta | None) -> UUID:
        return triggers.trigger(make_trigger(delay=delay, ttl=ttl)).run_id

    @rule(target=claims, run=triggered)
    def claim(self, run: UUID) -> object:
        return self._claim(run, Run.objects.get(pk=run).lease)

    @rule(run=triggered, lease=st.integers(0, 3))
    def claim_by_an_old_message(self, run: UUID, lease: int) -> None:
        before = Run.objects.get(pk=run)
        if not isinstance(runs.claim(run, lease, self.worker), Claimed):
            assert Run.objects.get(pk=run).lease == before.lease
        else:
            assert (before.status, before.lease) == (Status.QUEUED, lease)

    def _claim(self, run: UUID, lease: int) -> object:
        before = Run.objects.get(pk=run)
        claimed = runs.claim(run, lease, self.worker)
        if not isinstance(claimed, Claimed):
            return multiple()
        assert before.status == Status.QUEUED and claimed.lease > before.lease
        return (run, claimed.lease)

    def _as_worker(self, claim: tuple[UUID, int], write: object, *args: object, **fields: object) -> None:
        """A worker's write succeeds exactly if the lease is still the run's and the run is running."""
        run, lease = claim
        before = Run.objects.get(pk=run)
        held = before.lease == lease and before.status == Status.RUNNING
        try:
            write(run, *args, lease=lease, **fields)  # type: ignore[operator]
        except StaleRun:
            assert not held
            assert Run.objects.values("status", "lease", "result", "error").get(pk=run) == {
                "status": before.status,
                "lease": before.lease,
                "result": before.result,
                "error": before.error,
            }
        else:
            assert held or (before.lease == lease and write is runs.fail and before.status == Status.WAITING)

    @rule(claim=claims)
    def complete(self, claim: tuple[UUID, int]) -> None:
        self._as_worker(claim, runs.complete, result=b"1", result_type="application/json")

    @rule(claim=claims, status=st.sampled_from([Status.FAILED, Status.TIMED_OUT]))
    def fail(self, claim: tuple[UUID, int], status: Status) -> None:
        self._as_worker(claim, runs.fail, error=ERROR, status=status)

    @rule(claim=claims)
    def retry_later(self, claim: tuple[UUID, int]) -> None:
        self._as_worker(claim, runs.retry_later, error=ERROR, delay=timedelta(minutes=1), failed_steps=[])

    @rule(claim=claims)
    def record_a_step(self, claim: tuple[UUID, int]) -> None:
        self.keys += 1
        key = f"step#{self.keys}"
        self._as_worker(claim, steps.record, key, digest="d", value="1", error=None, took=timedelta())

    @rule(claim=claims, what=st.sampled_from(["timer", "event", "runs"]))
    def suspend(self, claim: tuple[UUID, int], what: str) -> None:
        self.keys += 1
        key = f"{what}#{self.keys}"
        children = [make_trigger(parent=claim[0], parent_key=f"{key}[{n}]") for n in range(2)]
        opening = {
            "timer": timer(timedelta(hours=2), key),
            "event": for_event("paid", key=key, lookback=timedelta()),
            "runs": Opening(key=key, kind=WaitKind.RUNS, children=children),
        }[what]
        self._as_worker(claim, waits.suspend, opening)

    @rule(target=triggered)
    def look_at_a_child(self) -> object:
        child = Run.objects.filter(parent__isnull=False).order_by("?").first()
        return multiple() if child is None else child.id

    @rule(target=claims, claim=claims)
    def suspend_on_children_and_begin_one(self, claim: tuple[UUID, int]) -> object:
        self.suspend(claim, "runs")
        child = Run.objects.filter(parent=claim[0], status=Status.QUEUED).first()
        return multiple() if child is None else self._claim(child.id, child.lease)

    @rule()
    def send_the_event(self) -> None:
        events.emit("paid", "{}")

    @rule(run=triggered)
    def cancel(self, run: UUID) -> None:
        live = Run.objects.get(pk=run).status not in FINAL
        assert verbs.cancel(run) is live

    @rule(run=triggered)
    def retry(self, run: UUID) -> None:
        with suppress(IllegalMove):
            verbs.retry(run)
            self.retried.add(run)

    @rule(hours=st.integers(1, 30))
    def time_passes_and_ticks_come(self, hours: int) -> None:
        forward(hours=hours)
        wakes.expire_due()
        wakes.wake()
        queues.admit()
        rescue.expire()

    @rule()
    def the_worker_dies(self) -> None:
        forward(minutes=1)
        rescue.rescue()
        self.worker = make_worker()

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def runs_move_along_the_table_and_ends_are_final(self) -> None:
        now = {run.id: (Status(run.status), run.lease) for run in Run.objects.only("id", "status", "lease")}
        for run, (status, lease) in now.items():
            was, old = self.runs.get(run, (status, lease))
            assert lease >= old
            assert was not in FINAL or status == was or run in self.retried
            assert status == was or _reachable(was, status)
        self.runs = now
        self.retried.clear()

    @invariant()
    def a_resolved_wait_never_changes(self) -> None:
        now = {row[0]: row[1:] for row in Wait.objects.values_list("id", "status", "value")}
        for wait, was in self.waits.items():
            assert was[0] == WaitStatus.PENDING or now[wait] == was
        self.waits = now

    @invariant()
    def a_parents_wait_counts_the_children_that_live(self) -> None:
        for wait in Wait.objects.filter(kind=WaitKind.RUNS, status=WaitStatus.PENDING):
            children = Run.objects.filter(pk__in=json.loads(wait.value))
            assert wait.remaining == children.exclude(status__in=FINAL).count()

    @invariant()
    def nobody_sleeps_on_a_wait_that_is_over(self) -> None:
        wakes.wake()
        over = Wait.objects.exclude(status=WaitStatus.PENDING).values("pk")
        assert not Run.objects.filter(status=Status.WAITING, waiting_on__in=over).exists()

    @invariant()
    def a_run_has_one_open_attempt_at_most_and_none_when_it_is_over(self) -> None:
        open_ones = Attempt.objects.filter(finished_at=None)
        assert not open_ones.filter(run__status__in=FINAL).exists()
        assert open_ones.count() == open_ones.values("run").distinct().count()


def _reachable(start: Status, to: Status) -> bool:
    seen, edge = {start}, {start}
    while edge:
        edge = {target for target, sources in MOVES.items() if edge & {*sources}} - seen
        seen |= edge
    return to in seen


@pytest.mark.slow
@pytest.mark.usefixtures("database")
def test_runs_in_any_order():
    RunsInAnyOrder.TestCase.settings = settings(
        max_examples=20,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    RunsInAnyOrder.TestCase().runTest()
