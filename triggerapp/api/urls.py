"""The API's routes. A host project includes them under `api/`, where the SDK looks for them."""

from __future__ import annotations

from django.urls import URLPattern, path

from triggerapp.api import (
    batches,
    events,
    health,
    idempotency,
    openapi,
    publictokens,
    queues,
    runs,
    tasks,
    tokens,
    waitpoints,
    whoami,
)

urlpatterns: list[URLPattern] = [
    path("v1/health", health.health, name="health"),
    path("v1/ready", health.ready, name="ready"),
    path("v1/openapi.json", openapi.openapi, name="openapi"),
    path("v1/whoami", whoami.WhoAmI.as_view(), name="whoami"),
    path("v1/tasks/<path:task>/trigger", tasks.TaskTrigger.as_view(), name="task-trigger"),
    path("v1/auth/public-tokens", publictokens.PublicTokens.as_view(), name="public-tokens"),
    path("v1/tasks/<path:task>/batch", batches.TaskBatch.as_view(), name="task-batch"),
    path("v1/tasks/batch", batches.ManyTasks.as_view(), name="batch-v1"),
    path("v2/tasks/batch", batches.ManyTasks.as_view(), name="batch-v2"),
    path("v3/batches", batches.BatchList.as_view(), name="batch-v3"),
    path("v3/batches/<str:batch>/items", batches.BatchItems.as_view(), name="batch-items"),
    path("v1/batches/<str:batch>", batches.BatchDetail.as_view(), name="batch"),
    path("v2/batches/<str:batch>", batches.BatchDetail.as_view(), name="batch-retrieve-v2"),
    path("v1/batches/<str:batch>/results", batches.BatchResults.as_view(), name="batch-results"),
    path("v1/idempotencyKeys/<path:key>/reset", idempotency.KeyReset.as_view(), name="key-reset"),
    path("v1/waitpoints/tokens", waitpoints.TokenList.as_view(), name="token-list"),
    path("v1/waitpoints/tokens/<str:token>", waitpoints.TokenDetail.as_view(), name="token"),
    path("v1/waitpoints/tokens/<str:token>/complete", waitpoints.TokenComplete.as_view(), name="token-complete"),
    path("v1/queues", queues.QueueList.as_view(), name="queue-list"),
    path("v1/queues/<path:queue>/pause", queues.QueuePause.as_view(), name="queue-pause"),
    path("v1/queues/<path:queue>", queues.QueueDetail.as_view(), name="queue"),
    path("v1/events", events.EventList.as_view(), name="event-list"),
    path("v1/events/<str:event>", events.EventDetail.as_view(), name="event"),
    path("v1/runs", runs.RunList.as_view(), name="run-list"),
    path("v3/runs/<str:run>", runs.RunDetail.as_view(), name="run"),
    path("v1/runs/<str:run>/result", runs.RunResult.as_view(), name="run-result"),
    path("v1/runs/<str:run>/events", runs.RunEvents.as_view(), name="run-events"),
    path("v1/runs/<str:run>/trace", runs.RunTrace.as_view(), name="run-trace"),
    path("v1/runs/<str:run>/spans/<str:span>", runs.RunSpan.as_view(), name="run-span"),
    path("v2/runs/<str:run>/cancel", runs.RunCancel.as_view(), name="run-cancel"),
    path("v1/runs/<str:run>/retry", runs.RunRetry.as_view(), name="run-retry"),
    path("v1/runs/<str:run>/replay", runs.RunReplay.as_view(), name="run-replay"),
    path("v1/runs/<str:run>/reschedule", runs.RunReschedule.as_view(), name="run-reschedule"),
    path("v1/runs/<str:run>/tags", runs.RunTags.as_view(), name="run-tags"),
    path("v1/runs/<str:run>/metadata", runs.RunMetadata.as_view(), name="run-metadata"),
    path("v1/waitpoints/tokens/waitpoint_<uuid:token>/callback/<str:secret>", tokens.callback, name="token-callback"),
]
