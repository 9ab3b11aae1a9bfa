"""What the page of metrics shows, in few queries over few rows.

Each looks at the newest runs of a window only, by an index; the page says how far back that was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from triggerapp.engine import sql

SAMPLE = 50_000
"""So many of the newest ended runs are looked at."""
COUNTED = 20_000
"""So many waiting runs are counted."""
WINDOWS: Mapping[str, tuple[timedelta, timedelta]] = MappingProxyType(
    {
        "1h": (timedelta(hours=1), timedelta(minutes=1)),
        "6h": (timedelta(hours=6), timedelta(minutes=5)),
        "24h": (timedelta(hours=24), timedelta(minutes=15)),
        "7d": (timedelta(days=7), timedelta(hours=2)),
    }
)
"""How long it is, and how long is what one point stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What ended in one stretch of time."""

    at: datetime
    completed: int = 0
    failed: int = 0
    stopped: int = 0
    """Canceled, or expired before they started."""
    p50: float | None = None
    p95: float | None = None
    """Seconds from start to end, waits included."""

    @property
    def ended(self) -> int:
        """All of them."""
        return self.completed + self.failed + self.stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The runs that ended in a window."""

    points: Sequence[Point]
    total: Point
    since: datetime | None
    """Set if there were more than are looked at: those that ended from then on are."""


_ENDED = f"""
WITH ended AS (
  SELECT date_bin(%s, finished_at, 'epoch'::timestamptz) AS at, finished_at, status,
    extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM triggerapp_run
  WHERE environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s)
    AND finished_at IS NOT NULL AND finished_at >= now() - %s ORDER BY finished_at DESC LIMIT {SAMPLE}
)
SELECT at, count(*) AS n, min(finished_at) AS first, now() AS now,
  count(*) FILTER (WHERE status = 'completed') AS completed,
  count(*) FILTER (WHERE status IN ('failed', 'crashed', 'timed_out')) AS failed,
  count(*) FILTER (WHERE status IN ('canceled', 'expired')) AS stopped,
  percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS quantiles
FROM ended GROUP BY GROUPING SETS ((at), ()) ORDER BY at
"""


def ended(environment: str, window: str) -> Ended:
    """How many runs ended when, how, and after how long."""
    length, step = WINDOWS[window]
    *found, whole = sql.rows(_ENDED, [step, environment, length])
    since = whole["first"] if whole["n"] >= SAMPLE else None
    points = {row["at"]: _point(row, row["at"]) for row in found}
    return Ended(points=_filled(points, whole["now"], length, step), total=_point(whole, whole["now"]), since=since)


def _point(row: sql.Row, at: datetime) -> Point:
    p50, p95 = (None if each is None else float(each) for each in row["quantiles"] or (None, None))
    return Point(at=at, completed=row["completed"], failed=row["failed"], stopped=row["stopped"], p50=p50, p95=p95)


def _filled(points: Mapping[datetime, Point], now: datetime, length: timedelta, step: timedelta) -> list[Point]:
    """Points of which nothing is known are zero, not left out."""
    last = datetime.fromtimestamp(now.timestamp() // step.total_seconds() * step.total_seconds(), UTC)
    moments = [last - n * step for n in range(length // step, -1, -1)]
    return [points.get(moment, Point(at=moment)) for moment in moments]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restores:
    """How runs came back from their images."""

    tried: int
    succeeded: int
    p50: float | None
    p95: float | None
    """Seconds that it took."""

    @property
    def share(self) -> int | None:
        """So many of a hundred succeeded; rounded down, so that 100 means all."""
        return 100 * self.succeeded // self.tried if self.tried else None


_RESTORES = f"""
SELECT count(*) AS tried, count(*) FILTER (WHERE problem = '') AS succeeded,
  percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE problem = '') AS quantiles
FROM (SELECT problem, extract(epoch FROM took)::float8 AS seconds FROM triggerapp_restore
  WHERE environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s) AND at >= now() - %s
  ORDER BY at DESC LIMIT {SAMPLE}) newest
"""


def restores(environment: str, window: str) -> Restores:
    """Of the newest tries of a window."""
    row = sql.row(_RESTORES, [environment, WINDOWS[window][0]])
    assert row is not None
    p50, p95 = row.pop("quantiles") or (None, None)
    return Restores(**row, p50=p50, p95=p95)


_WAITING = f"""
SELECT count(*) AS runs FROM (SELECT 1 FROM triggerapp_run WHERE status = 'waiting'
  AND environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s) LIMIT {COUNTED}) waiting
"""
_FREED = f"""
SELECT count(*) AS images, COALESCE(sum(image_size), 0) AS freed, COALESCE(sum(size), 0) AS stored FROM (
  SELECT c.image_size, c.size FROM triggerapp_checkpoint c JOIN triggerapp_run r ON r.id = c.run_id
  WHERE r.status = 'waiting' AND r.environment_id = (SELECT id FROM triggerapp_environment WHERE slug = %s)
  LIMIT {COUNTED}
) kept
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What suspended runs spare."""

    runs: int
    images: int
    freed: int
    """Bytes of memory that their processes would hold."""
    stored: int
    """Bytes of their images in the store."""

    @property
    def is_more(self) -> bool:
        """Whether there are more runs than were counted."""
        return self.runs >= COUNTED


def waiting(environment: str) -> Waiting:
    """The runs that wait now."""
    runs, images = sql.row(_WAITING, [environment]), sql.row(_FREED, [environment])
    assert runs is not None
    assert images is not None
    read: dict[str, Any] = {name: int(value) for name, value in {**runs, **images}.items()}
    return Waiting(**read)
