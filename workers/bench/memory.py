"""What processes hold in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MEBI = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Mebibytes of several processes together."""

    resident: float
    proportional: float
    """Pages that are shared count by share."""


def of(pids: Sequence[int]) -> Memory:
    """The memory of these processes, as Linux tells it."""
    totals = {"Rss": 0, "Pss": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in totals:
                totals[name] += 1024 * int(rest.split()[0])
    return Memory(resident=totals["Rss"] / _MEBI, proportional=totals["Pss"] / _MEBI)
