"""The dashboard's routes. A host project includes them: `path("triggers/", include("triggerapp.dashboard.urls"))`."""

from __future__ import annotations

from django.urls import URLPattern, path
from django.views.generic import RedirectView

from triggerapp.dashboard import (
    actions,
    bulks,
    exports,
    keys,
    listing,
    logs,
    metrics,
    overview,
    run,
    schedules,
    streams,
    tasks,
    variables,
    versions,
)

app_name = "triggers"

urlpatterns: list[URLPattern] = [
    path("", RedirectView.as_view(pattern_name="triggers:runs"), name="home"),
    path("runs/", listing.runs, name="runs"),
    path("runs/new", listing.newer, name="newer"),
    path("runs/live", streams.rows, name="rows"),
    path("runs/export/<str:form>", exports.export, name="export"),
    path("runs/<uuid:run_id>/", run.run, name="run"),
    path("runs/<uuid:run_id>/parts", run.parts, name="run-parts"),
    path("runs/<uuid:run_id>/live", streams.run, name="run-live"),
    path("runs/<uuid:run_id>/journal", run.journal, name="journal"),
    path("runs/<uuid:run_id>/log", logs.download, name="log"),
    path("runs/<uuid:run_id>/download/<str:what>", run.download, name="download"),
    path("runs/<uuid:run_id>/retry", actions.retry, name="run-retry"),
    path("runs/<uuid:run_id>/replay", actions.replay, name="run-replay"),
    path("runs/<uuid:run_id>/cancel", actions.cancel, name="run-cancel"),
    path("waits/", overview.waits, name="waits"),
    path("waits/<uuid:wait_id>/resolve", actions.resolve, name="resolve"),
    path("events/", overview.events, name="events"),
    path("events/send", actions.send_event, name="send-event"),
    path("events/<uuid:event_id>/", overview.event, name="event"),
    path("tasks/", tasks.tasks, name="tasks"),
    path("tasks/<path:name>/test", tasks.test, name="test"),
    path("queues/", overview.queue_list, name="queues"),
    path("queues/<int:queue_id>/pause", overview.pause, name="pause"),
    path("workers/", overview.workers, name="workers"),
    path("bulk/", bulks.listing, name="bulks"),
    path("bulk/start", bulks.start, name="bulk-start"),
    path("bulk/<uuid:bulk_id>/", bulks.one, name="bulk"),
    path("bulk/<uuid:bulk_id>/progress", bulks.progress, name="bulk-progress"),
    path("bulk/<uuid:bulk_id>/abort", bulks.abort, name="bulk-abort"),
    path("schedules/", schedules.listing, name="schedules"),
    path("schedules/create", schedules.create, name="schedule-create"),
    path("schedules/<uuid:schedule_id>/", schedules.one, name="schedule"),
    path("schedules/<uuid:schedule_id>/switch", schedules.switch, name="schedule-switch"),
    path("schedules/<uuid:schedule_id>/delete", schedules.delete, name="schedule-delete"),
    path("versions/", versions.listing, name="versions"),
    path("versions/<uuid:deployment_id>/promote", versions.promote, name="version-promote"),
    path("variables/", variables.listing, name="variables"),
    path("variables/put", variables.put, name="variable-put"),
    path("variables/delete", variables.delete, name="variable-delete"),
    path("metrics/", metrics.metrics, name="metrics"),
    path("keys/", keys.listing, name="keys"),
    path("keys/create", keys.create, name="key-create"),
    path("keys/<str:prefix>/revoke", keys.revoke, name="key-revoke"),
    path("audit/", overview.audit, name="audit"),
]
