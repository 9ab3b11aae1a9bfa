"""The dashboard's routes. A host project includes them: `path("triggers/", include("triggerapp.dashboard.urls"))`.

What can be no id, in the place of one, is answered by our own page; whatever else is not here is the project's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.urls import URLPattern, path
from django.views.generic import RedirectView

from triggerapp.dashboard import (
    actions,
    bulks,
    destinations,
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
    tokens,
    variables,
    versions,
    webhooks,
)
from triggerapp.dashboard.pages import no_such_row

app_name = "triggers"

PAGES: list[URLPattern] = [
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
    path("events/<uuid:event_id>/replay", actions.replay_event, name="event-replay"),
    path("tasks/", tasks.tasks, name="tasks"),
    path("tasks/<path:name>/test", tasks.test, name="test"),
    path("queues/", overview.queue_list, name="queues"),
    path("queues/<int:queue_id>/pause", overview.pause, name="pause"),
    path("workers/", overview.workers, name="workers"),
    path("bulk/", bulks.listing, name="bulks"),
    path("bulk/start", bulks.start, name="bulk-start"),
    path("bulk/<uuid:bulk_action_id>/", bulks.one, name="bulk"),
    path("bulk/<uuid:bulk_action_id>/progress", bulks.progress, name="bulk-progress"),
    path("bulk/<uuid:bulk_action_id>/abort", bulks.abort, name="bulk-abort"),
    path("webhooks/", webhooks.listing, name="webhooks"),
    path("webhooks/create", webhooks.create, name="webhook-create"),
    path("webhooks/<int:endpoint_id>/", webhooks.one, name="endpoint"),
    path("webhooks/<int:endpoint_id>/rotate", webhooks.rotate, name="endpoint-rotate"),
    path("webhooks/<int:endpoint_id>/switch", webhooks.switch, name="endpoint-switch"),
    path("webhooks/<int:endpoint_id>/test", webhooks.test, name="endpoint-test"),
    path("deliveries/<uuid:delivery_id>/", webhooks.delivery, name="delivery"),
    path("deliveries/<uuid:delivery_id>/replay", webhooks.replay, name="delivery-replay"),
    path("destinations/", destinations.listing, name="destinations"),
    path("destinations/create", destinations.create, name="destination-create"),
    path("destinations/<int:destination_id>/", destinations.one, name="destination"),
    path("destinations/<int:destination_id>/edit", destinations.edit, name="destination-edit"),
    path("destinations/<int:destination_id>/rotate", destinations.rotate, name="destination-rotate"),
    path("destinations/<int:destination_id>/switch", destinations.switch, name="destination-switch"),
    path("destinations/<int:destination_id>/test", destinations.test, name="destination-test"),
    path("destinations/<int:destination_id>/remove", destinations.remove, name="destination-remove"),
    path("notices/<uuid:notice_id>/retry", destinations.retry, name="notice-retry"),
    path("schedules/", schedules.listing, name="schedules"),
    path("schedules/create", schedules.create, name="schedule-create"),
    path("schedules/<uuid:schedule_id>/", schedules.one, name="schedule"),
    path("schedules/<uuid:schedule_id>/run", schedules.run_now, name="schedule-run"),
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
    path("tokens/", tokens.listing, name="tokens"),
    path("tokens/create", tokens.create, name="token-create"),
    path("tokens/<str:prefix>/revoke", tokens.revoke, name="token-revoke"),
    path("audit/", overview.audit, name="audit"),
]
_ID = re.compile("<(?:uuid|int):")


def _without_an_id(pages: list[URLPattern]) -> Iterator[URLPattern]:
    """These pages with anything in the place of an id; they come after all that is there."""
    for each in pages:
        anything, ids = _ID.subn("<str:", str(each.pattern))
        if ids:
            yield path(anything, no_such_row)


urlpatterns = [*PAGES, *_without_an_id(PAGES)]
