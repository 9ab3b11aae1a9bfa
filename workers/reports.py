"""What the worker's main process reported of its runs, settled in batches.

Reports are hints: each is checked against the run's row, and a tick finds what a lost one meant.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from triggerapp import conf
from triggerapp.engine import checkpoints, rescue, runs, timeouts, verbs, workers
from triggerapp.models import Run, Status
from workers.patience import UNANSWERED

Report = Mapping[str, Any]

_KINDS = ("delivered", "lost", "killed", "canceled", "stamped", "expired", "timed_out", "at_work", "waiting")
"""In the order in which they are settled."""

_KILLED = "its worker was shut down cold, and killed it before it could leave: another goes on from what was kept"


class Reports:
    """Reports that have come since the last settling."""

    def __init__(self, worker: UUID) -> None:
        self.worker = worker
        self._open: list[Report] = []

    def add(self, report: Report) -> None:
        """Note a report."""
        self._open.append(report)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for one of them: everything but word of what went well."""
        return any(report["what"] not in ("delivered", "at_work", "waiting") for report in self._open)

    def settle(self) -> None:
        """Act on what came; reports of one kind together."""
        for what in _KINDS:
            chosen = [report for report in self._open if report["what"] == what]
            try:
                if chosen:
                    getattr(self, f"_{what}")(chosen)
            except UNANSWERED:
                raise  # kept for the next time
            except Exception:
                self._forget(what)
                raise
            self._forget(what)

    def _forget(self, what: str) -> None:
        self._open = [report for report in self._open if report["what"] != what]

    def _delivered(self, reports: list[Report]) -> None:
        runs.mark_delivered(self._ids(reports))

    def _lost(self, reports: list[Report]) -> None:
        rescue.rescue_lost(self._ids(reports), self.worker)

    def _at_work(self, reports: list[Report]) -> None:
        """The roll call. An old one says nothing of what was claimed since."""
        last = reports[-1]
        if time.monotonic() - last["at"] < conf.get().LEASE.total_seconds() / 2:
            rescue.rescue_stray(self.worker, at_work=last["tasks"])

    def _killed(self, reports: list[Report]) -> None:
        """By a cold shutdown: no crash of the run's, however often its workers are deployed."""
        held = Run.objects.filter(id__in=self._ids(reports), worker=self.worker, status=Status.RUNNING)
        for run_id, lease in held.values_list("id", "lease"):
            with transaction.atomic():  # what is repeated is not noted twice
                checkpoints.note(run_id, _KILLED, lease=lease)
                runs.release(run_id, lease=lease)

    def _canceled(self, reports: list[Report]) -> None:
        for report in reports:
            verbs.cancel_task(report["task"], actor="revoke")

    def _stamped(self, reports: list[Report]) -> None:
        for report in reports:
            verbs.cancel_stamped(report["stamps"], actor="revoke_by_stamped_headers")

    def _expired(self, reports: list[Report]) -> None:
        rescue.expire()

    def _timed_out(self, reports: list[Report]) -> None:
        for report in reports:
            for run_id in self._ids([report]):
                timeouts.time_out(run_id, self.worker, seconds=report["seconds"])

    def _waiting(self, reports: list[Report]) -> None:
        workers.describe(self.worker, waiting=reports[-1]["how"])

    def _ids(self, reports: list[Report]) -> list[UUID]:
        """Run ids; by task id where the message came from a producer that knows nothing of us."""
        known = [UUID(report["run"]) for report in reports if report.get("run")]
        foreign = [report["task"] for report in reports if not report.get("run")]
        if foreign:
            known += Run.objects.filter(task_id__in=foreign).values_list("id", flat=True)
        return known
