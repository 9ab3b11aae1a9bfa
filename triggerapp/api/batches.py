"""Batches: many triggers in one request, or announced first and then streamed line by line."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import http, options, rendering
from triggerapp.api.http import Access, View, body_of, only, without_none
from triggerapp.api.tasks import with_token
from triggerapp.engine import batches, strictjson
from triggerapp.engine.calls import Call
from triggerapp.errors import BadArgument, BadInput, NotFound, of_one
from triggerapp.models import FINAL, Batch, BatchItem, Run

TRIGGER: Access = {"POST": ("batchTrigger", "tasks")}
READ: Access = {"GET": ("read", "batch")}


class NdjsonParser(BaseParser):
    """A JSON object on each line."""

    media_type = "application/x-ndjson"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """The lines that are not empty."""
        lines = enumerate(http.read(stream).splitlines(), 1)
        return [_line(number, line) for number, line in lines if line.strip()]


def _line(number: int, line: bytes) -> Any:
    try:
        return strictjson.loads(line)
    except ValueError as error:
        # a broken line's own words count from its beginning: "line 1"
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise ParseError(f"line {number} is not JSON that can be taken: {reason}", code="bad_json") from error


class BatchView(View):
    """What all that trigger many have in common."""

    access: ClassVar[Access] = TRIGGER
    narrow: ClassVar[tuple[str, ...]] = ("tasks",)

    def call(self, index: int, task: Any, body: Any) -> Call:
        """The call of this task and body; a refusal names the item."""
        if not isinstance(body, dict) or not isinstance(task, str):
            raise BadInput(f"items[{index}] must be an object with a task")
        self.require([("tasks", task)], f"durable task {task[:200]!r}")
        try:
            return options.call_of(task, body, self.principal.environment, of_batch=True)
        except (BadInput, NotFound) as error:
            raise of_one(f"items[{index}]", error) from error

    def accept(self, calls: list[Call], key: Any = None) -> tuple[batches.Announced, Any]:
        """The batch of these calls, and its runs."""
        caller = self.principal
        with _all_or_none():
            return batches.trigger(calls, environment=caller.environment, actor=caller.actor, key=key)


class _all_or_none:
    """Runs of one request are accepted all or none; the sentence of a refusal says that."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, BadArgument):
            raise BadArgument(f"{error} (no run of this batch was accepted)", error.param) from error
        if isinstance(error, NotFound):
            raise NotFound(f"{error}; no run of this batch was accepted") from error


class TaskBatch(BatchView):
    """Many runs of one task (v1)."""

    def post(self, request: Request, task: str) -> Response:
        """Accept them all or none."""
        items = _items(only(body_of(request), "items"))
        for number, item in enumerate(items):
            if isinstance(item, dict) and item.get("task") not in (None, task):
                raise BadInput(f"items[{number}]: the task is {task!r:.80}, as the path says, not {item['task']!r:.80}")
        batch, runs = self.accept([self.call(number, task, item) for number, item in enumerate(items)])
        return Response({"batchId": ids.show("batch", batch.id), "runs": [ids.show("run", run.run_id) for run in runs]})


class ManyTasks(BatchView):
    """Many runs of any tasks (v1, v2)."""

    def post(self, request: Request) -> Response:
        """Accept them all or none; with an idempotency key, once."""
        body = only(body_of(request), "items", "idempotencyKey")
        items = [(item.get("task") if isinstance(item, dict) else None, item) for item in _items(body)]
        key = request.headers.get("idempotency-key") or body.get("idempotencyKey")
        batch, runs = self.accept([self.call(n, *item) for n, item in enumerate(items)], key)
        shown = ids.show("batch", batch.id)
        rows = [
            {"id": ids.show("run", run.run_id), "taskIdentifier": task, "isCached": run.cached}
            for (task, _), run in zip(items, runs, strict=False)
        ]
        body = {"id": shown, "runCount": batch.run_count, "isCached": batch.cached, "runs": rows}
        return with_token(Response(body), self.principal, f"read:batch:{shown}")


def _items(body: dict[str, Any]) -> list[Any]:
    items = body.get("items")
    if not isinstance(items, list) or not 0 < len(items) <= batches.MOST_ITEMS:
        raise BadInput(f"items must be a list of 1 to {batches.MOST_ITEMS:,} triggers")
    return items


class BatchList(View):
    """Announce a batch (v3, the first of two phases)."""

    access: ClassVar[Access] = TRIGGER
    narrow: ClassVar[tuple[str, ...]] = ("tasks",)

    def post(self, request: Request) -> Response:
        """A batch that waits for its items."""
        body, caller = body_of(request), self.principal
        if body.get("resumeParentOnCompletion") or body.get("parentRunId"):
            raise BadInput("runs outside this project cannot wait for a batch: retrieve it until it is complete")
        key = body.get("idempotencyKey")
        batch = batches.announce(caller.environment, body.get("runCount"), actor=caller.actor, key=key)
        shown = ids.show("batch", batch.id)
        answer = {"id": shown, "runCount": batch.run_count, "isCached": batch.cached, "idempotencyKey": key}
        return with_token(Response(without_none(answer), status=202), caller, f"read:batch:{shown}")


class BatchItems(BatchView):
    """Fill a batch (v3, the second phase)."""

    parser_classes = (NdjsonParser,)

    def post(self, request: Request, batch: str) -> Response:
        """Accept the items that are not there yet; all of this request, or none."""
        found = ids.read("batch", batch)
        if not isinstance(request.data, list):
            raise ParseError("send one JSON object a line, as application/x-ndjson", code="bad_json")
        if not request.data and "chunked" in request.headers.get("Transfer-Encoding", ""):
            raise BadInput("no item has come: this server drops bodies that come in chunks, as WSGI does; use ASGI")
        caller = self.principal
        with _all_or_none():
            filled = batches.fill(
                found, self._by_index(request.data), environment=caller.environment, actor=caller.actor
            )
        missing = {} if filled.sealed else {"enqueuedCount": filled.count, "expectedCount": filled.expected}
        return Response(
            {
                "id": batch,
                "itemsAccepted": filled.accepted,
                "itemsDeduplicated": filled.known,
                "sealed": filled.sealed,
                **missing,
            }
        )

    def _by_index(self, items: list[Any]) -> dict[int, Call]:
        found: dict[int, Call] = {}
        for number, item in enumerate(items, 1):
            index = item.get("index") if isinstance(item, dict) else None
            if type(index) is not int:
                raise BadInput(f"item {number} of this request must be an object with an index, a whole number")
            if index in found:
                raise BadInput(f"the index {index} is there twice in one request")
            found[index] = self.call(index, item.get("task"), item)
        return found


class BatchDetail(View):
    """A batch, and how its runs stand."""

    access: ClassVar[Access] = READ
    narrow: ClassVar[tuple[str, ...]] = ("batch",)

    def get(self, request: Request, batch: str) -> Response:
        """The batch as it is now."""
        found = self.batch(batch)
        runs = list(BatchItem.objects.filter(batch=found).order_by("index").values_list("run", flat=True))
        live = Run.objects.filter(pk__in=runs).exclude(status__in=FINAL).exists()
        fields = {
            "id": ids.show("batch", found.id),
            "status": "PENDING" if found.sealed_at is None else "PROCESSING" if live else "COMPLETED",
            "idempotencyKey": found.idempotency_key,
            "createdAt": rendering.when(found.created_at),
            "updatedAt": rendering.when(found.sealed_at or found.created_at),
            "runCount": found.run_count,
            "runs": [ids.show("run", run) for run in runs],
            "processing": {**without_none({"completedAt": rendering.when(found.sealed_at)}), "errors": []},
        }
        return Response(without_none(fields))

    def batch(self, batch: str) -> Batch:
        """The batch that the path names."""
        self.require([("batch", batch)], f"batch {batch}")
        wanted = ids.read("batch", batch)
        found = Batch.objects.filter(pk=wanted, environment_id=self.principal.environment).first()
        if found is None:
            raise ids.missing("batch", wanted)
        return found


class BatchResults(BatchDetail):
    """How the runs of a batch ended."""

    def get(self, request: Request, batch: str) -> Response:
        """The runs that have ended, in the order of the items."""
        found = self.batch(batch)
        order = list(BatchItem.objects.filter(batch=found).order_by("index").values_list("run", flat=True))
        ended = Run.objects.filter(pk__in=order, finished_at__isnull=False).in_bulk()
        items = [rendering.result(ended[run]) for run in order if run in ended]
        return Response({"id": ids.show("batch", found.id), "items": items})
