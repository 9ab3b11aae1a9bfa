"""A process that stands at a wait leaves its worker: dump, store, commit, kill, in this order.

Whatever fails before the commit costs nothing, the process goes on; whatever dies after it, the image is there.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from celery.exceptions import Ignore

from checkpoint import CheckpointError, Label
from triggerapp import imagestore
from triggerapp.engine import checkpoints
from triggerapp.engine.checkpoints import Made
from triggerapp.engine.runs import Claimed
from triggerapp.engine.waits import Resolution
from triggerapp.errors import StaleRun, TriggerError
from triggerapp.failpoints import point
from workers import base, freezing, identity
from workers.messages import Parked, Woken
from workers.patience import UNANSWERED, patiently
from workers.supervision.birth import Born, Case
from workers.supervision.life import Life
from workers.tracer import Suspended


def leave(case: Case, born: Born, life: Life, parked: Parked) -> None:
    """Raises what says to Celery that the run has left. Returns where it goes on here."""
    try:
        made = _dump(case, born, life)
    except (CheckpointError, OSError) as problem:
        case.note(f"not dumped at {parked.at}: {problem}")
        return life.wake(Woken())
    try:
        entered = patiently(_Commit(case.claimed, parked, made))
    except StaleRun as stale:
        imagestore.delete([made.id])
        life.end()
        raise Ignore(str(stale)) from stale
    except UNANSWERED:  # whether it was committed is not known: its image stays until that is
        return life.wake(Woken())
    except TriggerError:  # the function is to hear why there is no such wait: it opens it itself, and meets the same
        imagestore.delete([made.id])
        return life.wake(Woken())
    if isinstance(entered, Resolution):
        imagestore.delete([made.id])
        return life.wake(Woken(resolution=entered))
    return _kill(life, parked, replaced=entered)


def _kill(life: Life, parked: Parked, *, replaced: UUID | None) -> None:
    point("kill.before")
    life.end()
    point("kill.after")
    imagestore.delete([replaced])
    raise Suspended(parked.description, at=None if parked.opening is None else parked.opening.key)


def _dump(case: Case, born: Born, life: Life) -> Made:
    label = Label(
        checkpoint=uuid4(),
        run=case.claimed.run_id,
        sequence=1 + (born.taken.sequence if born.taken else 0),
        lease=case.claimed.lease,
    )
    return freezing.dump(life.process, label, base=born.base if born.is_restored else _base_of(life.process.pid))


def _base_of(pid: int) -> str | None:
    """Of the zygote that the process was forked from; None if it is not made yet."""
    home = identity.home()
    return None if home is None else base.of(home, freezing.parent_of(pid))


class _Commit:
    """The wait and its checkpoint in the database; safe to repeat after a commit of unknown outcome.

    Answers how the wait ended, or which image was replaced.
    """

    def __init__(self, claimed: Claimed, parked: Parked, made: Made) -> None:
        self.claimed = claimed
        self.parked = parked
        self.made = made
        self.is_again = False

    def __call__(self) -> Resolution | UUID | None:
        if self.is_again and checkpoints.is_kept(self.made.id):
            return None
        self.is_again = True
        run_id, lease = self.claimed.run_id, self.claimed.lease
        if self.parked.opening is None:
            return checkpoints.release(run_id, self.made, lease=lease)
        entered, replaced = checkpoints.suspend(
            run_id, self.parked.opening, self.made, lease=lease, open_wait=self.parked.open_wait
        )
        return entered if isinstance(entered, Resolution) else replaced
