"""Runs: look at them, and cancel, replay, retry, reschedule and label them."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import options, queries, rendering, spans
from triggerapp.api.http import Access, View, body_of, only, without_none
from triggerapp.api.schedules import generator
from triggerapp.engine import metadata, schedules, verbs
from triggerapp.engine.durations import deadline
from triggerapp.engine.keys import SHORT_NAMES
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import Run

READ: Access = {"GET": ("read", "runs")}
WRITE: Access = {"POST": ("write", "runs")}


class RunView(View):
    """A route of one run: of the caller's environment, and open to the caller."""

    narrow: ClassVar[tuple[str, ...]] = ("runs", "tasks", "tags", "batch")

    def run(self, run: str) -> Run:
        """The run that the path names."""
        found = queries.run_of(self.principal.environment, run)
        tags = [("tags", tag) for tag in found.tags]
        batch = queries.batch_of(found) if self.principal.may_some(*self._verb(), ("batch",)) else None
        shown = ids.show("run", found.id)
        known = [("runs", shown), ("runs", str(found.id)), ("tasks", found.task), *tags]
        self.require([*known, *([("batch", batch)] if batch else [])], f"run {shown}")
        return found

    def _verb(self) -> tuple[str]:
        return (self.access[str(self.request.method)][0],)


class RunList(View):
    """Runs of the environment, newest first."""

    access: ClassVar[Access] = READ

    def get(self, request: Request) -> Response:
        """A page of the runs that pass all filters."""
        return self.page(request.query_params.dict())

    def page(self, params: dict[str, str]) -> Response:
        """The page that these parameters ask for."""
        found = queries.page(queries.runs(self.principal.environment, params), params, time="created_at")
        env = {"id": self.principal.slug, "name": self.principal.slug}
        return Response(found.shown(lambda run: {**rendering.common(run), "env": env}))


class ProjectRuns(RunList):
    """The same under the path of a project, of which there is one, whatever it is called."""

    def get(self, request: Request, project: str = "") -> Response:
        """A page of the runs that pass all filters; of other environments than the key's there are none."""
        params = request.query_params.dict()
        wanted, own = params.pop("filter[env]", ""), self.principal.slug
        if wanted and not {own, SHORT_NAMES.get(own, own)} & set(wanted.split(",")):
            return Response({"data": [], "pagination": {}})
        return self.page(params)


def retrieved(run: Run) -> dict[str, Any]:
    """A run with all that belongs to it."""
    depth = queries.depth(run)
    root, parent = queries.relative(run.root_id), queries.relative(run.parent_id)
    ended = run.finished_at is not None
    relatives = {
        "root": None if root is None else rendering.related(root),
        "parent": None if parent is None else rendering.related(parent, depth=depth - 1),
        "children": [rendering.related(child, depth=depth + 1) for child in queries.children(run)] or None,
    }
    return {
        **rendering.related(run, batch=queries.batch_of(run), depth=depth),
        **without_none(
            {
                "payload": rendering.payload(run),
                "output": rendering.output(run) if ended else None,
                "error": rendering.error(run),
                "schedule": _schedule(run),
            }
        ),
        "relatedRuns": without_none(relatives),
        "attemptCount": run.attempt if run.started_at else 0,
    }


def _schedule(run: Run) -> dict[str, Any] | None:
    """What started the run, if the clock did."""
    found = schedules.of_run(run.id)
    if found is None:
        return None
    fields = {"externalId": found.external_id, "deduplicationKey": found.deduplication_key}
    return {"id": schedules.public_id(found.pk), "generator": generator(found), **without_none(fields)}


class RunDetail(RunView):
    """One run."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, run: str) -> Response:
        """The run as it is now."""
        return Response(retrieved(self.run(run)))


class RunResult(RunView):
    """How a run ended."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, run: str) -> Response:
        """The end of the run; 404 as long as there is none."""
        found = self.run(run)
        if found.finished_at is None:
            raise NotFound(f"run {ids.show('run', found.id)} has not ended")
        return Response(rendering.result(found))


class RunEvents(RunView):
    """What happened in a run, in order."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, run: str) -> Response:
        """Its attempts, steps and waits."""
        return Response({"events": [span.flat() for span in spans.of(self.run(run))]})


class RunTrace(RunView):
    """The same as a tree."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, run: str) -> Response:
        """The run, with its attempts below it and their steps and waits below them; with `page[size]` one by one."""
        found, params = self.run(run), request.query_params
        if "page[size]" in params or "page[after]" in params:
            return Response(spans.page(spans.of(found), params))
        return Response({"trace": {"traceId": found.id.hex, "rootSpan": spans.tree(spans.of(found))}})


class RunSpan(RunView):
    """One attempt, step or wait."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, run: str, span: str) -> Response:
        """The span of this id."""
        within = self.run(run)
        found = next((each for each in spans.of(within) if each.id == span), None)
        if found is None:
            raise NotFound(f"there is no span {span[:80]} in run {ids.show('run', within.id)}")
        return Response(found.detail())


class RunCancel(RunView):
    """Stop a run."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, run: str) -> Response:
        """Cancel it and its children; one that is over stays as it is."""
        found = self.run(run)
        only(body_of(request))
        verbs.cancel(found.id, actor=self.principal.actor)
        return Response({"id": ids.show("run", found.id)})


class RunRetry(RunView):
    """Go on with a failed run from the step that failed."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, run: str) -> Response:
        """The same run, once more."""
        found = self.run(run)
        verbs.retry(found.id, actor=self.principal.actor)
        return Response({"id": ids.show("run", found.id)})


class RunReplay(RunView):
    """Do it again as a new run."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, run: str) -> Response:
        """A new run of the same task, with the same payload or another one."""
        found = self.run(run)
        arguments, changes = options.of_replay(found.task, body_of(request), self.principal.environment)
        triggered = verbs.replay(
            found.id,
            actor=self.principal.actor,
            arguments=arguments,
            environment=self.principal.environment,
            changes=changes,
        )
        return Response({"id": ids.show("run", triggered.run_id)})


class RunReschedule(RunView):
    """Move the start of a delayed run."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, run: str) -> Response:
        """Start it `delay` from now, or at that moment."""
        found = self.run(run)
        body = only(body_of(request), "delay")
        verbs.reschedule(found.id, deadline("delay", body.get("delay")), actor=self.principal.actor)
        return Response(retrieved(queries.run_of(self.principal.environment, run)))


class RunTags(RunView):
    """Label a run."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, run: str) -> Response:
        """Add tags to those it has."""
        found = self.run(run)
        added = options.tags_of(body_of(request).get("tags"))
        metadata.add_tags(found.id, added, actor=self.principal.actor)
        return Response({"message": f"Successfully set {len(added)} new tags."})


class RunMetadata(RunView):
    """What a run says about itself."""

    access: ClassVar[Access] = {"GET": ("read", "runs"), "PUT": ("write", "runs")}

    def get(self, request: Request, run: str) -> Response:
        """The metadata as it is now."""
        return Response({"metadata": self.run(run).metadata})

    def put(self, request: Request, run: str) -> Response:
        """Replace it, or change single keys, here and in the runs above."""
        found, body = self.run(run), body_of(request)
        for name, above in (("parentOperations", found.parent_id), ("rootOperations", found.root_id)):
            if body.get(name) and self.principal.may_all("write", "runs"):
                self._change(above or found.id, _operations(body, name))
        changed = self._change(found.id, _operations(body, "operations"), replace=body.get("metadata"))
        return Response({"metadata": changed})

    def _change(self, run: Any, operations: list[dict[str, Any]], *, replace: Any = None) -> dict[str, Any]:
        return metadata.change(run, replace=replace, operations=operations, actor=self.principal.actor)


def _operations(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = body.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BadInput(f"{name} must be a list of operations")
    return found
