"""The page of metrics: what ended and how fast, what waits and what that spares, what the queues hold."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from triggerapp.dashboard import asked, figures, overviews
from triggerapp.dashboard.figures import Ended
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render

Json = Any
_WINDOW = "24h"


@page()
def metrics(request: HttpRequest) -> HttpResponseBase:
    """All of it, of one environment."""
    window = asked.choice(request, "window", figures.WINDOWS, _WINDOW)
    environment = environment_in(request.GET)
    ended = figures.ended(environment, window)
    context = {
        "title": "Metrics",
        "active": "metrics",
        "chosen": {"environment": environment, "window": window},
        "windows": figures.WINDOWS,
        "environments": asked.environment_names(request),
        "ended": ended,
        "charts": charts(ended),
        "restores": figures.restores(environment, window),
        "waiting": figures.waiting(environment),
        "queues": [row for row in overviews.queues(environment) if row.queued or row.running],
    }
    return render(request, "metrics.html", context)


def charts(ended: Ended) -> list[dict[str, str]]:
    """The curves, as the script draws them: times, then the values of each."""
    times = [point.at.timestamp() for point in ended.points]
    throughput = [[getattr(point, name) for point in ended.points] for name in ("completed", "failed", "stopped")]
    durations = [[getattr(point, name) for point in ended.points] for name in ("p50", "p95")]
    return [
        _chart("Runs that ended", ("completed", "failed", "canceled or expired"), [times, *throughput], "runs"),
        _chart("Seconds from start to end, waits included", ("p50", "p95"), [times, *durations], "s"),
    ]


def _chart(title: str, names: tuple[str, ...], data: list[Json], unit: str) -> dict[str, str]:
    return {"title": title, "data": json.dumps({"names": names, "data": data, "unit": unit})}
