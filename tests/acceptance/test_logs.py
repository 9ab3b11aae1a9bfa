"""What runs log and print in real workers, of each pool."""

from __future__ import annotations

import logging

from tests.acceptance.cluster import Worker, wait_until
from tests.acceptance.memory import says
from triggerapp.models import LogLine


def said(task_id: str) -> list[tuple[str, int, str]]:
    lines = LogLine.objects.filter(run__task_id=task_id).order_by("id")
    return list(lines.values_list("logger", "level", "text"))


def test_what_a_run_logs_and_prints_is_kept_beside_it(on: Worker):
    result = says.delay("before", "after")
    result.get(timeout=120)
    first, second = (
        [("tests.said", logging.WARNING, f"logged {word}"), ("stdout", logging.INFO, f"printed {word}")]
        for word in ("before", "after")
    )
    # Entered again after each of its waits: what stands before them is said again.
    expected = [*first, *second] if on.by_checkpoint else [*first, *first, *second, *first, *second]
    wait_until(lambda: said(result.id) == expected, reason=str(said(result.id)))
    leases = LogLine.objects.filter(run__task_id=result.id).values_list("lease", flat=True)
    assert len(set(leases)) == (2 if on.by_checkpoint else 3)
