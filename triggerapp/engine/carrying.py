"""What a replay from a step takes over of the first run's journal: all that was done before that step began.

The copies are of attempt 0, which no run has: the code that comes to them gets their recorded values whatever it passes
now, and what they did stays the first run's, for rollbacks too. The rest of the journal is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Q

from triggerapp import ids
from triggerapp.engine import sql
from triggerapp.errors import BadInput, IllegalMove
from triggerapp.models import Run, Step

_SHOWN = 20

_STEPS = """
INSERT INTO triggerapp_step (run_id, key, digest, lease, attempt, value, error, started_at, finished_at)
SELECT %s, key, digest, 0, 0, value, error, started_at, finished_at FROM triggerapp_step
WHERE run_id = %s AND NOT superseded AND key <> %s AND NOT starts_with(key, %s) AND finished_at <= %s ORDER BY id
"""

# A trigger that was not waited for has no wait: it is known by its child, which stays the first run's.
_TRIGGERS = """
INSERT INTO triggerapp_step (run_id, key, digest, lease, attempt, value, started_at, finished_at)
SELECT %s, parent_key, '', 0, 0, json_build_object('id', id, 'task_id', task_id)::text, created_at, created_at
FROM triggerapp_run WHERE parent_id = %s AND parent_key IS NOT NULL AND parent_wait IS NULL
AND NOT starts_with(parent_key, %s) AND created_at <= %s
"""

_WAITS = """
INSERT INTO triggerapp_wait (id, run_id, environment_id, key, kind, status, name, filter, expires_at, value, event,
  resolved_by, woken, tags, opened_at, resolved_at)
SELECT gen_random_uuid(), %s, environment_id, key, kind, status, name, filter, expires_at, value, event,
  resolved_by, true, tags, opened_at, resolved_at
FROM triggerapp_wait WHERE run_id = %s AND status <> 'pending' AND NOT starts_with(key, %s)
AND NOT starts_with(key, %s) AND resolved_at <= %s
"""


def was_rolled_back(run: Run) -> bool:
    """Whether what its steps did is undone, or was begun to be."""
    return run.steps.filter(Q(undone=True) | Q(key__startswith="rollback:")).exists()


def is_rolled_back(steps: Iterable[Step]) -> bool:
    """The same, of steps that were read already."""
    return any(step.undone or step.key.startswith("rollback:") for step in steps)


def beginnings(steps: Iterable[Step]) -> list[str]:
    """The steps among those of a run that a replay may begin with."""
    found = list(steps)
    if is_rolled_back(found):
        return []
    return [step.key for step in found if step.digest and not step.superseded]


def carry_over(run: Run, to: UUID, *, until: str) -> None:
    """Give the new run `to` what `run` had done when its step `until` began; inside `atomic()`, before it is sent.

    Raises `BadInput` if there is no such step, `IllegalMove` if rollbacks have undone what there is.
    """
    if was_rolled_back(run):
        shown = ids.show("run", run.id)
        raise IllegalMove(f"{shown} was rolled back, nothing of it can be carried over: replay it as a whole")
    step = Step.objects.filter(run=run, key=until, superseded=False).exclude(digest="").only("started_at").first()
    if step is None:
        raise BadInput(f"{ids.show('run', run.id)} has no recorded step {until[:255]!r}{_known(run)}")
    within, again, begun = f"{until}/", f"{until}:retry#", step.started_at
    sql.run(_STEPS, [to, run.id, until, within, begun])
    sql.run(_TRIGGERS, [to, run.id, within, begun])
    sql.run(_WAITS, [to, run.id, within, again, begun])
    # A first claim reads no journal.
    sql.run("UPDATE triggerapp_run SET lease = 1 WHERE id = %s", [to])


def _known(run: Run) -> str:
    found = beginnings(run.steps.defer("value").order_by("id"))
    return f"; it has {', '.join(found[:_SHOWN])}{', …' if len(found) > _SHOWN else ''}" if found else ""
