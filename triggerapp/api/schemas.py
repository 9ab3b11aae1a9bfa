"""The API in OpenAPI's words: what each method takes and answers. A test holds it to the routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from triggerapp.api import webhookschemas
from triggerapp.api.schemabasics import (
    ANY,
    DURATION,
    NUMBER,
    OBJECT,
    PAGE,
    TEXT,
    TIME,
    TTL,
    YES,
    Schema,
    numbered,
    one_of,
    paged,
    record,
    several,
)
from triggerapp.models import DeploymentStatus
from triggerapp.models.moves import Status, public_name

STATUSES = sorted({*map(public_name, Status), "PENDING_VERSION", "DEQUEUED", "SYSTEM_FAILURE"})


_TAGS: Schema = {"oneOf": [TEXT, several(TEXT)]}
_ID = record("id", id=TEXT)
_OPTIONS = {
    "delay": DURATION,
    "ttl": TTL,
    "idempotencyKey": {"type": "string", "maxLength": 2048},
    "idempotencyKeyTTL": DURATION,
    "concurrencyKey": _TAGS["oneOf"][0],
    "maxAttempts": NUMBER,
    "maxDuration": {"type": "number", "description": "seconds"},
    "tags": _TAGS,
    "metadata": OBJECT,
    "priority": {"type": "number"},
}
_PAYLOAD_TYPE: Schema = one_of("application/json", "application/super+json", "text/plain", "application/store")
_TRIGGER_OPTIONS = record(**_OPTIONS, payloadType=_PAYLOAD_TYPE, queue=record("name", name=TEXT))
_CONTEXT: Schema = {"description": "of old SDKs; passed over"}
TRIGGER = record(payload=ANY, options=_TRIGGER_OPTIONS, context=_CONTEXT)
_ITEM = record("task", task=TEXT, payload=ANY, options=_TRIGGER_OPTIONS, context=_CONTEXT)
RUN_ITEM = record(
    "id",
    "status",
    "taskIdentifier",
    "createdAt",
    "updatedAt",
    id=TEXT,
    status=one_of(*STATUSES),
    taskIdentifier=TEXT,
    version=TEXT,
    idempotencyKey=TEXT,
    isTest=YES,
    **{f"is{name}": YES for name in "Queued Executing Waiting Completed Success Failed Cancelled".split()},
    **dict.fromkeys(("createdAt", "updatedAt", "startedAt", "finishedAt", "delayedUntil", "expiredAt"), TIME),
    ttl=TEXT,
    tags=several(TEXT),
    metadata=OBJECT,
    costInCents=NUMBER,
    baseCostInCents=NUMBER,
    durationMs=NUMBER,
)
_ERROR_OF_RUN = record("message", message=TEXT, name=TEXT, stackTrace=TEXT)
RUN: Schema = {
    "allOf": [
        RUN_ITEM,
        record(
            depth=NUMBER,
            triggerFunction=TEXT,
            batchId=TEXT,
            payload=ANY,
            output=ANY,
            error=_ERROR_OF_RUN,
            relatedRuns=record(root=RUN_ITEM, parent=RUN_ITEM, children=several(RUN_ITEM)),
            attemptCount=NUMBER,
            schedule=OBJECT,
        ),
    ]
}
RESULT = record("ok", "id", ok=YES, id=TEXT, taskIdentifier=TEXT, output=TEXT, outputType=TEXT, error=OBJECT)
BATCH = record(
    "id",
    "status",
    id=TEXT,
    status=one_of("PENDING", "PROCESSING", "COMPLETED"),
    idempotencyKey=TEXT,
    createdAt=TIME,
    updatedAt=TIME,
    runCount=NUMBER,
    runs=several(TEXT),
    processing=OBJECT,
)
TOKEN = record(
    "id",
    "url",
    "status",
    id=TEXT,
    url=TEXT,
    status=one_of("WAITING", "COMPLETED", "TIMED_OUT"),
    tags=several(TEXT),
    **dict.fromkeys(("createdAt", "completedAt", "timeoutAt", "idempotencyKeyExpiresAt"), TIME),
    output=TEXT,
    outputType=TEXT,
    outputIsError=YES,
)
_LIMIT: Schema = {"type": ["integer", "null"]}
_OR_NULL: Schema = {"type": ["string", "null"]}
QUEUE = record(
    "id",
    "name",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    running=NUMBER,
    queued=NUMBER,
    paused=YES,
    concurrencyLimit=_LIMIT,
    concurrency=record(
        **dict.fromkeys(("current", "base", "override"), _LIMIT),
        **dict.fromkeys(("overriddenAt", "overriddenBy"), _OR_NULL),
    ),
    version=TEXT,
)
_PLAN = {
    "task": TEXT,
    "cron": {"type": "string", "description": "five fields, as in 0 9 * * MON-FRI"},
    "timezone": {"type": "string", "description": "such as Europe/Berlin; UTC if it is left out"},
    "externalId": TEXT,
}
_GENERATOR = record(type=TEXT, expression=TEXT, description=TEXT)
SCHEDULE = record(
    "id",
    "task",
    "active",
    "generator",
    id=TEXT,
    type=TEXT,
    task=TEXT,
    active=YES,
    deduplicationKey=TEXT,
    externalId=_OR_NULL,
    generator=_GENERATOR,
    timezone=TEXT,
    nextRun=_OR_NULL,
    environments=several(OBJECT),
)
DEPLOYMENT = record(
    "id",
    "version",
    "status",
    id=TEXT,
    createdAt=TIME,
    shortCode=TEXT,
    version=TEXT,
    **dict.fromkeys(("runtime", "runtimeVersion", "externalId"), _OR_NULL),
    status=one_of(*(status.name for status in DeploymentStatus)),
    deployedAt=TIME,
    git=OBJECT,
)
_BUILD = record(**dict.fromkeys(("version", "runtime", "runtimeVersion", "externalId"), TEXT), git=OBJECT, promote=YES)
VARIABLE = record("name", "value", "isSecret", name=TEXT, value=TEXT, isSecret=YES)
_SUCCESS = record("success", success=YES)
BULK = record(
    "id",
    "type",
    "status",
    "counts",
    id=TEXT,
    name=TEXT,
    type=one_of("CANCEL", "REPLAY"),
    status=one_of("PENDING", "COMPLETED", "ABORTED"),
    counts=record(total=NUMBER, success=NUMBER, failure=NUMBER),
    createdAt=TIME,
    completedAt=TIME,
)
_BULK_BEGUN = record(
    "action",
    action=one_of("cancel", "replay"),
    filter={
        **OBJECT,
        "description": "the filters of the list of runs, in their names there, and queue as {type, name}",
    },
    runIds=several(TEXT),
    name=TEXT,
    targetRegion=TEXT,
)
_EVENT_SENT = record(
    "name",
    name=TEXT,
    payload=ANY,
    id={"type": "string", "description": "the sender's own id"},
    deliverAt=TIME,
    deliverAfter=TTL,
)
_EVENT_ACCEPTED = record("id", "isCached", id=TEXT, isCached=YES)
_EVENT = record(
    "id",
    id=TEXT,
    name=TEXT,
    status={"type": "string", "enum": ["DELIVERED", "SCHEDULED", "CANCELED"]},
    payload=ANY,
    createdAt=TIME,
    deliverAt=TIME,
    waits=several(record(id=TEXT, run=TEXT)),
    runs=several(record(task=TEXT, id=TEXT, error=TEXT)),
    externalId=TEXT,
    sourceRun=TEXT,
)
_METADATA = record("metadata", metadata=OBJECT)
_METADATA_CHANGE = record(
    metadata=OBJECT, operations=several(OBJECT), parentOperations=several(OBJECT), rootOperations=several(OBJECT)
)
_FILLED = record(
    "id",
    id=TEXT,
    itemsAccepted=NUMBER,
    itemsDeduplicated=NUMBER,
    sealed=YES,
    enqueuedCount=NUMBER,
    expectedCount=NUMBER,
)
REFUSAL = record("error", "code", error=TEXT, code=TEXT, param=TEXT)


_USER = record(
    "userId",
    "email",
    "dashboardUrl",
    **dict.fromkeys(("userId", "email", "dashboardUrl"), TEXT),
    project=record(**dict.fromkeys(("name", "url", "orgTitle"), TEXT)),
)
_BATCH_MADE = record("id", id=TEXT, runCount=NUMBER, isCached=YES, idempotencyKey=TEXT, runs=several(OBJECT))

METHODS: Mapping[str, tuple[Schema | None, Schema]] = {
    "WhoAmI.get": (None, record(environment=TEXT, actor=TEXT, scopes=several(TEXT), isPublicToken=YES)),
    "WhoIsTheUser.get": (None, _USER),
    "PublicTokens.post": (
        record("scopes", scopes=several(TEXT), expirationTime=TTL, oneTimeUse=YES, realtime=ANY),
        record("token", token=TEXT),
    ),
    "Claims.post": (None, record("sub", "pub", sub=TEXT, pub=YES, key=NUMBER)),
    "PacketUpload.put": (None, record("presignedUrl", "storagePath", presignedUrl=TEXT, storagePath=TEXT)),
    "PacketDownload.get": (None, record("presignedUrl", presignedUrl=TEXT)),
    "TaskTrigger.post": (TRIGGER, record("id", "isCached", id=TEXT, isCached=YES)),
    "TaskBatch.post": (record("items", items=several(TRIGGER)), record(batchId=TEXT, runs=several(TEXT))),
    "ManyTasks.post": (record("items", items=several(_ITEM)), _BATCH_MADE),
    "BatchList.post": (record("runCount", runCount=NUMBER, idempotencyKey=TEXT), _BATCH_MADE),
    "BatchItems.post": (TEXT, _FILLED),
    "BatchDetail.get": (None, BATCH),
    "BatchResults.get": (None, record("id", "items", id=TEXT, items=several(RESULT))),
    "KeyReset.post": (record("taskIdentifier", taskIdentifier=TEXT), _ID),
    "TokenList.get": (None, paged(TOKEN)),
    "TokenList.post": (
        record(timeout=DURATION, tags=_TAGS, idempotencyKey=TEXT, idempotencyKeyTTL=DURATION),
        record("id", "isCached", "url", id=TEXT, isCached=YES, url=TEXT),
    ),
    "TokenDetail.get": (None, TOKEN),
    "TokenComplete.post": (record(data=ANY), record("success", success=YES)),
    "QueueList.get": (None, numbered(QUEUE)),
    "QueueDetail.get": (None, QUEUE),
    "QueuePause.post": (
        record("action", type=TEXT, action=one_of("pause", "resume")),
        QUEUE,
    ),
    "QueueOverride.post": (record("concurrencyLimit", type=TEXT, concurrencyLimit=NUMBER), QUEUE),
    "QueueReset.post": (record(type=TEXT), QUEUE),
    "ScheduleList.get": (None, numbered(SCHEDULE)),
    "ScheduleList.post": (
        record("task", "cron", "deduplicationKey", **_PLAN, deduplicationKey=TEXT),
        SCHEDULE,
    ),
    "ScheduleDetail.get": (None, SCHEDULE),
    "ScheduleDetail.put": (record("task", "cron", **_PLAN), SCHEDULE),
    "ScheduleDetail.delete": (None, _ID),
    "ScheduleActivate.post": (None, SCHEDULE),
    "ScheduleDeactivate.post": (None, SCHEDULE),
    "DeploymentList.get": (None, paged(DEPLOYMENT)),
    "DeploymentList.post": (_BUILD, DEPLOYMENT),
    "DeploymentCurrent.get": (None, DEPLOYMENT),
    "DeploymentLatest.get": (None, DEPLOYMENT),
    "DeploymentDetail.get": (None, DEPLOYMENT),
    "DeploymentPromote.post": (None, DEPLOYMENT),
    "VariableList.get": (None, several(VARIABLE)),
    "VariableList.post": (record("name", "value", name=TEXT, value=TEXT, isSecret=YES), _SUCCESS),
    "VariableImport.post": (record("variables", variables=OBJECT, override=YES, isSecret=YES), _SUCCESS),
    "VariableDetail.get": (None, VARIABLE),
    "VariableDetail.put": (record("value", value=TEXT), _SUCCESS),
    "VariableDetail.delete": (None, _SUCCESS),
    "BulkList.get": (None, paged(BULK)),
    "BulkList.post": (_BULK_BEGUN, _ID),
    "BulkDetail.get": (None, BULK),
    "BulkAbort.post": (None, _ID),
    **webhookschemas.METHODS,
    "ProjectRuns.get": (None, paged(RUN_ITEM)),
    "EventList.post": ({"oneOf": [_EVENT_SENT, several(_EVENT_SENT)]}, {"oneOf": [_EVENT_ACCEPTED, OBJECT]}),
    "EventDetail.get": (None, _EVENT),
    "EventCancel.post": (None, _EVENT),
    "RunList.get": (None, paged(RUN_ITEM)),
    "RunDetail.get": (None, RUN),
    "RunResult.get": (None, RESULT),
    "RunEvents.get": (None, record("events", events=several(OBJECT))),
    "RunTrace.get": (None, {"oneOf": [record("trace", trace=OBJECT), paged(OBJECT)]}),
    "RunSpan.get": (None, OBJECT),
    "RunCancel.post": (None, _ID),
    "RunRetry.post": (None, _ID),
    "RunReplay.post": (record(payload=ANY, payloadType=_PAYLOAD_TYPE, queue=TEXT, **_OPTIONS), _ID),
    "RunReschedule.post": (record("delay", delay=DURATION), RUN),
    "RunTags.post": (record("tags", tags=_TAGS), record("message", message=TEXT)),
    "RunMetadata.get": (None, _METADATA),
    "RunMetadata.put": (_METADATA_CHANGE, _METADATA),
}

_CREATED = ("filter[createdAt][from]", "filter[createdAt][to]", "filter[createdAt][period]")
_RUN_FILTERS = "status taskIdentifier tag queue batch isTest version schedule machine region bulkAction error".split()
_RUNS = (*PAGE, *(f"filter[{name}]" for name in _RUN_FILTERS), *_CREATED)
QUERIES: Mapping[str, tuple[str, ...]] = {  # of each view; there is no other parameter
    "RunList": _RUNS,
    "ProjectRuns": ("filter[env]", *_RUNS),
    "RunTrace": ("page[size]", "page[after]"),
    **webhookschemas.QUERIES,
    "ScheduleList": ("page", "perPage"),
    "DeploymentList": (*PAGE, "status", "period", "from", "to"),
    "BulkList": PAGE,
    "TokenList": (*PAGE, "filter[status]", "filter[idempotencyKey]", "filter[tags]", *_CREATED),
    "QueueList": ("page", "perPage"),
    "QueueDetail": ("type",),
    "WhoIsTheUser": ("projectRef",),
}


def queried(view: object, method: str | None) -> Sequence[str]:
    """The parameters of a view's query; other methods than GET have none, but a body."""
    return QUERIES.get(type(view).__name__, ()) if method == "GET" else ()


class Described(AutoSchema):
    """Reads the tables above."""

    def get_request_serializer(self) -> Any:
        """The body, by media type."""
        found = METHODS[self._name()][0]
        if found is None:
            return None
        kinds = [parser.media_type for parser in self.view.parser_classes]
        return dict.fromkeys(kinds, found)

    def get_response_serializers(self) -> Any:
        """The answer, and the shape of every refusal."""
        status = "202" if self._name() == "BatchList.post" else "200"
        return {status: METHODS[self._name()][1], **dict.fromkeys(("4XX", "503"), REFUSAL)}

    def get_override_parameters(self) -> list[Any]:
        """The query of a list."""
        names = queried(self.view, self.method)
        return [OpenApiParameter(name=name, type=str, location=OpenApiParameter.QUERY) for name in names]

    def get_operation_id(self) -> str:
        """Unique: some views stand under two versions of a path."""
        return f"{type(self.view).__name__}_{self.method.lower()}_{self.path.split('/')[1]}"

    def get_tags(self) -> list[str]:
        """The kind of row that it is about."""
        kind: str = self.view.access[self.method][1]  # type: ignore[attr-defined]  # ours has it
        return [kind]

    def _name(self) -> str:
        return f"{type(self.view).__name__}.{self.method.lower()}"


class Bearer(OpenApiAuthenticationExtension):
    """How a caller says who they are."""

    target_class = "triggerapp.api.access.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        """A secret key, a public token, or a personal token."""
        told = "A secret key, a public token, or a personal token with an environment in the header x-trigger-branch."
        return {"type": "http", "scheme": "bearer", "description": told}
