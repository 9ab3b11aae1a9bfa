"""The lines that runs say, written in batches and deleted by age.

A worker that has lost its run writes no lines of it any more. Secrets are taken out before a line is stored.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from triggerapp import conf, redaction
from triggerapp.engine import environments, limits, sql

CUT = "triggerapp.cut"
"""The logger of the line that says that there are no more."""
_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line, as it was said."""

    at: float
    """By this host's clock; what is stored is by the database's, as long ago."""
    level: int
    logger: str
    text: str
    attempt: int
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is stored of a run."""

    lines: int
    size: int
    is_cut: bool


_WRITE = sql.Hot("""
INSERT INTO triggerapp_logline (run_id, environment_id, lease, attempt, step, level, logger, text, at)
SELECT r.id, r.environment_id, r.lease, l.attempt, l.step, l.level, l.logger, l.text,
  now() - l.age * interval '1 second'
FROM triggerapp_run r, unnest(%s::float8[], %s::int[], %s::text[], %s::int[], %s::text[], %s::text[])
  WITH ORDINALITY AS l (age, attempt, step, level, logger, text, n)
WHERE r.id = %s AND r.lease = %s ORDER BY l.n
""")


def write(run_id: UUID, lines: Sequence[Line], *, lease: int) -> None:
    """Store lines of a run that is held with this lease; of any other, nothing."""
    columns: list[list[object]] = [
        [max(0.0, time.time() - line.at) for line in lines],
        [line.attempt for line in lines],
        [line.step for line in lines],
        [max(0, min(line.level, 32767)) for line in lines],
        [limits.storable(line.logger)[:_NAME] for line in lines],
        [redaction.text(limits.storable(line.text)) for line in lines],
    ]
    sql.run(_WRITE, [*columns, run_id, lease])


def kept(run_id: UUID) -> Kept:
    """How much there is of a run."""
    row = sql.row(
        "SELECT count(*) AS lines, COALESCE(sum(octet_length(text)), 0) AS size, "
        "COALESCE(bool_or(logger = %s), false) AS is_cut FROM triggerapp_logline WHERE run_id = %s",
        [CUT, run_id],
    )
    assert row is not None
    return Kept(**row)


def prune(limit: int = 10_000) -> int:
    """Delete lines that are older than their retention; how many."""
    params = [environments.current(), conf.get().LOG_RETENTION]
    return sql.delete_some("triggerapp_logline", "environment_id = %s AND at < now() - %s", params, limit=limit)
