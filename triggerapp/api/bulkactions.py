"""Bulk actions: one verb for many runs, chosen by a filter or by their ids; the ticks do them.

Retries in bulk are the dashboard's and commands' own: Trigger.dev's schemas know none, so they are not shown here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import parameters, queries, rendering
from triggerapp.api.http import Access, View, body_of, only, without_none
from triggerapp.clock import now
from triggerapp.engine import bulk, limits
from triggerapp.engine.durations import duration, moment
from triggerapp.engine.selection import Selection
from triggerapp.errors import BadInput, IllegalMove
from triggerapp.models import BulkAction, BulkStatus, BulkVerb, Run, Status

Json = Any
Fields = dict[str, Json]

_VERBS = {"cancel": BulkVerb.CANCEL, "replay": BulkVerb.REPLAY}
_STATUSES = {"running": "PENDING", "completed": "COMPLETED", "aborted": "ABORTED"}
READ: Access = {"GET": ("read", "runs")}
WRITE: Access = {"POST": ("write", "runs")}


def _actions(environment: int) -> QuerySet[BulkAction]:
    return BulkAction.objects.filter(environment_id=environment, verb__in=_VERBS.values()).defer("selected")


def rendered(action: BulkAction) -> Fields:
    """A bulk action as Trigger.dev's schemas want it."""
    seen = action.done + action.refused
    return without_none(
        {
            "id": ids.show("bulk", action.pk),
            "name": action.name or None,
            "type": action.verb.upper(),
            "status": _STATUSES[action.status],
            "counts": {
                "total": seen if action.total is None else max(action.total, seen),
                "success": action.done,
                "failure": action.refused,
            },
            "createdAt": rendering.when(action.created_at),
            "completedAt": rendering.when(action.finished_at),
        }
    )


class BulkList(View):
    """The environment's bulk actions."""

    access: ClassVar[Access] = {**READ, **WRITE}

    def get(self, request: Request) -> Response:
        """A page of them, newest first."""
        params = request.query_params
        rows = queries.filtered(_actions(self.principal.environment), params, {})
        return Response(queries.page(rows, params, time="created_at").shown(rendered))

    def post(self, request: Request) -> Response:
        """Begin one; the answer does not wait for its end."""
        body = only(body_of(request), "action", "filter", "runIds", "name", "targetRegion")
        verb, name = body.get("action"), body.get("name")
        if not isinstance(verb, str) or verb not in _VERBS:
            raise BadInput(f"action={verb!r:.40} must be cancel or replay")
        limits.check_text("name", name)
        if ("filter" in body) == ("runIds" in body):
            raise BadInput("pass either a filter or runIds, not both and not none")
        environment = self.principal.environment
        chosen: dict[str, Any] = (
            {"selected": _selected(environment, body["runIds"])}
            if "runIds" in body
            else {"matching": selection_of(body["filter"])}
        )
        actor = self.principal.actor
        begun = bulk.start(_VERBS[verb], environment=environment, actor=actor, name=name or "", **chosen)
        return Response({"id": ids.show("bulk", begun.pk)})


def _selected(environment: int, given: Json) -> list[UUID]:
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise BadInput("runIds must be a list of ids of runs")
    if len(given) > bulk.MOST_SELECTED:
        raise BadInput(f"runIds has {len(given):,} ids; {bulk.MOST_SELECTED:,} are allowed, or a filter")
    wanted = list(dict.fromkeys(ids.read("run", each) for each in given))
    present = set(Run.objects.filter(environment_id=environment, pk__in=wanted).values_list("pk", flat=True))
    for run in wanted:
        if run not in present:
            raise ids.missing("run", run)
    return wanted


class BulkView(View):
    """A route of one bulk action."""

    def named(self, text: str) -> BulkAction:
        """The bulk action that the path names."""
        wanted = ids.read("bulk", text)
        found = _actions(self.principal.environment).filter(pk=wanted).first()
        if found is None:
            raise ids.missing("bulk", wanted)
        return found


class BulkDetail(BulkView):
    """One bulk action."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, action: str) -> Response:
        """How far it is."""
        return Response(rendered(self.named(action)))


class BulkAbort(BulkView):
    """Stop a bulk action."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, action: str) -> Response:
        """Do no more of it; what was done stays done."""
        found = self.named(action)
        if not bulk.abort(found.pk, actor=self.principal.actor) and self.named(action).status == BulkStatus.COMPLETED:
            raise IllegalMove(f"bulk action {action} is completed: there is nothing to stop")
        return Response({"id": ids.show("bulk", found.pk)})


# --- filters --------------------------------------------------------------------------------------


def selection_of(given: Json) -> Selection:
    """The runs that a filter in Trigger.dev's words means. Raises `BadInput`."""
    if not isinstance(given, dict):
        raise BadInput("filter must be an object")
    found: Fields = {}
    for name, value in given.items():
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            continue
        if name not in _FILTERS:
            raise BadInput(f"there is no filter {name[:60]!r}; there are {', '.join(_FILTERS)}")
        found |= _FILTERS[name](value)
    if given.keys() >= {"period", "from"}:
        raise BadInput("pass either period or from, not both")
    if not found:
        raise BadInput("filter is empty: name at least one condition")
    if "after" in found or "before" in found:
        found.setdefault("period", "all")
    return Selection(**found)


def _texts(name: str, value: Json) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise BadInput(f"{name} must be a text or a list of texts")
    for each in values:
        limits.check_text(name, each if each is not None else "")
    return tuple(values)


_RAW: Mapping[str, tuple[Status, ...]] = {
    "QUEUED": (Status.QUEUED, Status.PENDING),
    "DELAYED": (Status.PENDING,),
    "EXECUTING": (Status.RUNNING,),
    **{s.name: (s,) for s in Status if s not in (Status.PENDING, Status.QUEUED, Status.RUNNING)},
    **dict.fromkeys(("PENDING_VERSION", "DEQUEUED", "SYSTEM_FAILURE"), ()),
}


def _status(value: Json) -> Fields:
    names = _texts("status", value)
    for name in names:
        parameters.one_of("status", name, _RAW)
    statuses = tuple(dict.fromkeys(status.value for name in names for status in _RAW[name]))
    if not statuses:
        return {"nothing": True}
    asked = {"QUEUED": "room", "DELAYED": "delayed"}
    pending = [asked[name] for name in asked if name in names]
    return {"status": statuses, "pending": pending[0] if len(pending) == 1 else ""}


def _queues(value: Json) -> Fields:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in values):
        raise BadInput("queue must be {type, name}, or a list of those")
    return {"queues": _texts("queue", [each["name"] for each in values])}


def _moment(name: str, field: str) -> Callable[[Json], Fields]:
    return lambda value: {field: moment(name, value).isoformat()}


def _period(value: Json) -> Fields:
    return {"after": (now() - duration("period", value)).isoformat()}


def _row(name: str, kind: str) -> Callable[[Json], Fields]:
    return lambda value: {name: str(parameters.row(name, kind, value))}


def _is_test(value: Json) -> Fields:
    if not isinstance(value, bool):
        raise BadInput(f"isTest={value!r:.40} must be true or false")
    return {"nothing": True} if value else {"root": False}


def _nothing(value: Json) -> Fields:
    """No run has one yet."""
    return {"nothing": True}


_FILTERS: Mapping[str, Callable[[Json], Fields]] = {
    "status": _status,
    "taskIdentifier": lambda value: {"tasks": _texts("taskIdentifier", value)},
    "tag": lambda value: {"tags": _texts("tag", value)},
    "queue": _queues,
    "version": lambda value: {"versions": _texts("version", value)},
    "from": _moment("from", "after"),
    "to": _moment("to", "before"),
    "period": _period,
    "batch": _row("batch", "batch"),
    "schedule": _row("schedule", "sched"),
    "isTest": _is_test,
    **dict.fromkeys(("machine", "region", "bulkAction", "error"), _nothing),
}
