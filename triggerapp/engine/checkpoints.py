"""Checkpoints: a suspension with an image, and which image a claimed run may be restored from.

The image is stored before the row is written, and deleted after the row: a row without its image means a re-entry,
an image without a row is garbage that a tick finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from triggerapp import conf
from triggerapp.engine import dispatch, environments, sql, waits
from triggerapp.engine.waits import Opening, Resolution, Suspended
from triggerapp.errors import StaleRun
from triggerapp.failpoints import point
from triggerapp.models import Status
from triggerapp.models.moves import FINAL, move_sql

MOST_RESTORES = 2
"""An image whose process took its worker down this often is not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image that is in the store."""

    id: UUID
    sequence: int
    host: str
    pid: int
    pipe: int
    size: int
    image_size: int
    took: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The image of a run that was just claimed."""

    id: UUID
    wait: UUID | None
    sequence: int
    lease: int
    host: str
    pid: int
    pipe: int
    restores: int
    fits: bool
    """Whether all that has ended an attempt since were crashes."""

    @property
    def objection(self) -> str:
        """Why it must not be restored; empty if it may."""
        if not self.fits:
            return "the attempt that it was made in has failed since"
        if self.restores > MOST_RESTORES:
            return f"it was tried {self.restores - 1} times, and each time its worker died"
        return ""


_SAVE = sql.Hot("""
WITH old AS (SELECT id FROM triggerapp_checkpoint WHERE run_id = %s)
INSERT INTO triggerapp_checkpoint
  (id, run_id, wait, sequence, lease, attempt, crashes, host, pid, pipe, size, image_size, took)
SELECT %s, id, %s, %s, lease, attempt, crashes, %s, %s, %s, %s, %s, %s FROM triggerapp_run WHERE id = %s AND lease = %s
ON CONFLICT (run_id) DO UPDATE SET id = EXCLUDED.id, wait = EXCLUDED.wait, sequence = EXCLUDED.sequence,
  lease = EXCLUDED.lease, attempt = EXCLUDED.attempt, crashes = EXCLUDED.crashes, restores = 0, host = EXCLUDED.host,
  pid = EXCLUDED.pid, pipe = EXCLUDED.pipe, size = EXCLUDED.size, image_size = EXCLUDED.image_size,
  took = EXCLUDED.took, made_at = now()
RETURNING (SELECT id FROM old) AS old
""")


def suspend(
    run_id: UUID, opening: Opening, made: Made, *, lease: int, open_wait: UUID | None = None
) -> tuple[Resolution | Suspended, UUID | None]:
    """Open the wait, or wait on `open_wait` again, with an image to come back from; and the image that it replaces.

    Of a wait that is resolved already no image is kept. Raises `StaleRun`.
    """
    with transaction.atomic():
        if open_wait is None:
            entered = waits.suspend(run_id, opening, lease=lease)
        else:
            entered = waits.suspend_again(run_id, open_wait, lease=lease)
        if isinstance(entered, Resolution):
            return entered, None
        old = _save(run_id, entered.wait, made, lease)
        point("checkpoint.before_commit")
    point("checkpoint.after_commit")
    return entered, old


def _save(run_id: UUID, wait: UUID | None, made: Made, lease: int) -> UUID | None:
    # fmt: off
    params = [
        run_id, made.id, wait, made.sequence, made.host, made.pid, made.pipe, made.size, made.image_size, made.took,
        run_id, lease,
    ]
    # fmt: on
    row = sql.row(_SAVE, params)
    if row is None:
        raise StaleRun(run_id, lease)
    old: UUID | None = row["old"]
    return old


def release(run_id: UUID, made: Made, *, lease: int) -> UUID | None:
    """Give a run back whose process was stopped in the middle of its work; the image that this one replaces."""
    point("release.before_commit")
    with transaction.atomic():
        old = _save(run_id, None, made, lease)
        released = sql.rows(
            move_sql(
                Status.QUEUED,
                "sent_at = now(), sends = 1, computed = computed + (now() - claimed_at)",
                "id = %s AND lease = %s AND status = 'running'",
                returning=dispatch.COLUMNS,
            ),
            [run_id, lease],
        )
        if not released:
            raise StaleRun(run_id, lease)
    point("release.after_commit")
    dispatch.after_commit(released)
    return old


_FITS = "r.attempt - c.attempt = r.crashes - c.crashes AND r.error IS NULL"
_TAKE = sql.Hot(f"""
UPDATE triggerapp_checkpoint c SET restores = restores + 1 FROM triggerapp_run r
WHERE c.run_id = r.id AND r.id = %s AND r.lease = %s
RETURNING c.id, c.wait, c.sequence, c.lease, c.host, c.pid, c.pipe, c.restores,
  {_FITS} AS fits
""")


def take(run_id: UUID, *, lease: int) -> Taken | None:
    """The image of a run that we hold, counted as tried; None if it has none."""
    row = sql.row(_TAKE, [run_id, lease])
    return None if row is None else Taken(**row)


_TRIED = """
INSERT INTO triggerapp_restore (run_id, environment_id, lease, attempt, sequence, wait, host, made_on, made_at,
  dumped_in, size, image_size, took, problem)
SELECT r.id, r.environment_id, r.lease, r.attempt, c.sequence, c.wait, %s, c.host, c.made_at, c.took, c.size,
  c.image_size, %s, %s
FROM triggerapp_checkpoint c JOIN triggerapp_run r ON r.id = c.run_id WHERE c.id = %s AND r.id = %s AND r.lease = %s
"""


def note_tried(run_id: UUID, image: UUID, *, lease: int, host: str, took: timedelta, problem: str = "") -> None:
    """Note for people how it went to restore a run from this image, which we hold. A stale lease writes nothing."""
    sql.run(_TRIED, [host, took, problem[:8000], image, run_id, lease])


def is_kept(image: UUID) -> bool:
    """Whether a run has this image: its commit went through, although the answer was lost."""
    return sql.row("SELECT 1 FROM triggerapp_checkpoint WHERE id = %s", [image]) is not None


def are_kept() -> bool:
    """Whether any run has an image."""
    return sql.row("SELECT 1 FROM triggerapp_checkpoint LIMIT 1") is not None


def note(run_id: UUID, text: str, *, lease: int) -> None:
    """Write on the run's attempt how it came back, or why not by restore. A stale lease writes nothing."""
    sql.run(
        "UPDATE triggerapp_attempt a SET note = ltrim(left(a.note, 8000) || E'\\n' || %s, E'\\n') "
        "FROM triggerapp_run r WHERE r.id = %s AND r.lease = %s AND a.run_id = r.id AND a.number = r.attempt",
        [text, run_id, lease],
    )


_NOTE_ONCE = sql.Hot(f"""
UPDATE triggerapp_attempt a SET note = ltrim(left(a.note, 8000) || E'\\n' || %s::text, E'\\n')
FROM triggerapp_run r JOIN triggerapp_checkpoint c ON c.run_id = r.id
WHERE r.id = %s AND r.lease = %s AND a.run_id = r.id AND a.number = r.attempt
  AND {_FITS} AND position(%s::text in a.note) = 0
""")


def note_passed_over(run_id: UUID, text: str, *, lease: int) -> None:
    """As `note`, once, if the run has an image that it could be restored from."""
    sql.run(_NOTE_ONCE, [text, run_id, lease, text])


def ask_to_move(run_id: UUID) -> bool:
    """Ask whoever runs it to dump it where it stands, for another worker to go on with; False if nobody does."""
    asked = sql.run("UPDATE triggerapp_run SET moving = true WHERE id = %s AND status = 'running'", [run_id])
    sql.after_commit(sql.notify)
    return bool(asked)


def must_move(run_id: UUID, *, lease: int) -> bool:
    """Whether somebody asked for that."""
    return sql.row("SELECT 1 FROM triggerapp_run WHERE id = %s AND lease = %s AND moving", [run_id, lease]) is not None


def moving_under(worker: UUID) -> list[UUID]:
    """The runs of this worker that are to move."""
    statement = "SELECT id FROM triggerapp_run WHERE worker = %s AND status = 'running' AND moving"
    return [row["id"] for row in sql.rows(statement, [worker])]


def discard(run_id: UUID) -> UUID | None:
    """Forget the run's image; which it was, to be deleted after the commit."""
    row = sql.row("DELETE FROM triggerapp_checkpoint WHERE run_id = %s RETURNING id", [run_id])
    return None if row is None else row["id"]


def discard_by_hand(run_id: UUID) -> UUID | None:
    """Forget it because an operator says so: the attempt tells why the run is entered again."""
    with transaction.atomic():
        image = discard(run_id)
        lease = sql.row("SELECT lease FROM triggerapp_run WHERE id = %s", [run_id])
        if image is not None and lease is not None:
            note(run_id, "its image was deleted by hand: it is entered again from its journal", **lease)
    return image


_OVER = ", ".join(f"'{status.value}'" for status in FINAL)


def discard_ended(limit: int = 100) -> list[UUID]:
    """Forget the images of runs that are over, and those older than their retention; to be deleted after the commit."""
    point("discard.before_commit")
    found = sql.rows(
        "DELETE FROM triggerapp_checkpoint WHERE id IN (SELECT c.id FROM triggerapp_checkpoint c "
        f"JOIN triggerapp_run r ON r.id = c.run_id WHERE r.environment_id = %s AND (r.status IN ({_OVER}) "
        "OR c.made_at < now() - %s) LIMIT %s FOR UPDATE OF c SKIP LOCKED) RETURNING id",
        [environments.current(), conf.get().CHECKPOINT_RETENTION, limit],
    )
    return [row["id"] for row in found]


def kept() -> set[UUID]:
    """All images that runs may be restored from."""
    return {row["id"] for row in sql.rows("SELECT id FROM triggerapp_checkpoint")}
