"""Routes that stand at the root of the host, not under `api/`: where Trigger.dev's SDK and Prometheus look for them."""

from __future__ import annotations

from django.urls import URLPattern, path, re_path

from triggerapp.api import errors, realtime
from triggerapp.api.metrics import Metrics

urlpatterns: list[URLPattern] = [
    path("metrics", Metrics.as_view(), name="metrics"),
    path("realtime/v1/runs", realtime.held(realtime.RealtimeRuns), name="realtime-runs"),
    path("realtime/v1/runs/<str:run>", realtime.held(realtime.RealtimeRun), name="realtime-run"),
    path("realtime/v1/batches/<str:batch>", realtime.held(realtime.RealtimeBatch), name="realtime-batch"),
    re_path(r"^realtime/v1/", errors.no_route, name="no-realtime-route"),
]
