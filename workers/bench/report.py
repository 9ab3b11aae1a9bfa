"""Figures, what they should be, and how they are printed."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from triggerapp.engine import sql

_PACKAGES = ("celery", "kombu", "django", "psycopg", "redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str = ""
    target: float | None = None
    """What it has to be; reached from below unless `lower_is_better`."""
    goal: float | None = None
    lower_is_better: bool = False

    def reaches(self, mark: float | None) -> bool | None:
        """Whether it is as good as `mark`; None where there is none."""
        if mark is None:
            return None
        return self.value <= mark if self.lower_is_better else self.value >= mark

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "target_met": self.reaches(self.target), "goal_met": self.reaches(self.goal)}


def latency(name: str, seconds: Sequence[float], *, target: float | None = None) -> list[Figure]:
    """The median and the slowest hundredth, in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return [
        Figure(
            name=f"{name}, p50", value=1000 * statistics.median(ordered), unit="ms", target=target, lower_is_better=True
        ),
        Figure(name=f"{name}, p99", value=1000 * p99, unit="ms", lower_is_better=True),
    ]


def table(title: str, figures: Sequence[Figure]) -> Table:
    """One benchmark's figures, for people."""
    built = Table(title=title, title_justify="left", expand=False)
    built.add_column("figure", min_width=52)
    for heading in ("value", "target", "goal"):
        built.add_column(heading, justify="right", min_width=8)
    built.add_column("", min_width=9)
    for figure in figures:
        verdict, colour = _verdict(figure)
        value = f"{number(figure.value)} {figure.unit}".strip()
        built.add_row(
            figure.name, value, _mark(figure, figure.target), _mark(figure, figure.goal), f"[{colour}]{verdict}"
        )
    return built


def _mark(figure: Figure, mark: float | None) -> str:
    if mark is None:
        return ""
    return f"{'≤' if figure.lower_is_better else '≥'} {number(mark)}"


def _verdict(figure: Figure) -> tuple[str, str]:
    if figure.reaches(figure.goal):
        return "goal met", "green"
    if figure.reaches(figure.target):
        return "met", "green"
    return ("", "default") if figure.target is None else ("missed", "red")


def number(value: float) -> str:
    """Short, but no shorter than what was measured is worth."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def machine() -> Mapping[str, str]:
    """What it was measured on; nothing that names the machine."""
    return {
        "cores": str(os.cpu_count()),
        "processor": _first(Path("/proc/cpuinfo"), "model name"),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": _show("server_version").split()[0],
        "fsync, synchronous_commit": f"{_show('fsync')}, {_show('synchronous_commit')}",
        **{package: version(package) for package in _PACKAGES},
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _first(path: Path, key: str) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return platform.machine()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(found, platform.machine())


def _show(setting: str) -> str:
    found = sql.row("SELECT current_setting(%s) AS value", [setting])
    return "" if found is None else str(found["value"])
