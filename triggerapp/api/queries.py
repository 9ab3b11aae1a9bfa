"""What the API reads: rows of one environment, by allow-listed filters, a page at a time, never counted.

A cursor is the place between two rows, by time and id: pages stay right while new rows come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Model, Q, QuerySet
from django.db.models.expressions import Func, Value
from django.db.models.fields import BooleanField, DateTimeField, TextField, UUIDField
from django.db.models.functions import Now
from django.db.models.lookups import GreaterThan, LessThan

from triggerapp import ids
from triggerapp.api import parameters
from triggerapp.api.parameters import Params
from triggerapp.engine.durations import duration, moment
from triggerapp.errors import BadInput
from triggerapp.models import BatchItem, Firing, Queue, Run, Status
from triggerapp.models.runs import TAGGED

M = TypeVar("M", bound=Model)
Filters = Mapping[str, Callable[[str, str], Q]]
"""What each parameter means, told its name and its text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST = 100
_HEAVY = ("message", "payload", "result", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[M]):
    """Rows, newest first, and the cursors beside them."""

    rows: Sequence[M]
    next: str | None
    previous: str | None

    def shown(self, render: Callable[[M], dict[str, Any]]) -> dict[str, Any]:
        """The answer: the rows, and the cursors that there are."""
        cursors = {"next": self.next, "previous": self.previous}
        pagination = {name: cursor for name, cursor in cursors.items() if cursor is not None}
        return {"data": [render(row) for row in self.rows], "pagination": pagination}


def filtered(rows: QuerySet[M], params: Params, known: Filters) -> QuerySet[M]:
    """The rows that pass all filters of the query."""
    for name, text in params.items():
        if name in known and text:
            rows = rows.filter(known[name](name, text))
    return rows


class _Row(Func):
    """Time and id as PostgreSQL compares them: by an index over both."""

    template = "(%(expressions)s)"
    output_field = TextField()  # of no meaning: rows have no type of Django's


def page(rows: QuerySet[M], params: Params, *, time: str) -> Page[M]:
    """The page that `page[size]`, `page[after]` or `page[before]` ask for."""
    size = parameters.whole_number(params, "page[size]", 25, most=_MOST)
    after, before = params.get("page[after]"), params.get("page[before]")
    backwards = bool(before) and not after
    cursor = after or before
    if cursor:
        compare = GreaterThan if backwards else LessThan
        place = _place("page[before]" if backwards else "page[after]", cursor)
        rows = rows.filter(compare(_Row(F(time), F("id")), place))
    sign = "" if backwards else "-"
    found = list(rows.order_by(f"{sign}{time}", f"{sign}id")[: size + 1])
    more, found = len(found) > size, found[:size]
    shown = found[::-1] if backwards else found
    older, newer = (bool(cursor), more) if backwards else (more, bool(cursor))
    return Page(
        rows=shown,
        next=_cursor(shown[-1], time) if shown and older else None,
        previous=_cursor(shown[0], time) if shown and newer else None,
    )


def _cursor(row: Model, time: str) -> str:
    return f"{(getattr(row, time) - _EPOCH) // timedelta(microseconds=1)}_{row.pk.hex}"


def _place(name: str, cursor: str) -> _Row:
    micros, _, row = cursor.partition("_")
    try:
        at, pk = _EPOCH + timedelta(microseconds=int(micros)), UUID(hex=row)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{name}={cursor!r:.60} is no cursor: take it from `pagination` of a page") from error
    return _Row(Value(at, output_field=DateTimeField()), Value(pk, output_field=UUIDField()))


def run_of(environment: int, text: str) -> Run:
    """The run with this public id. Raises `NotFound`."""
    wanted = ids.read("run", text)
    run = Run.objects.filter(pk=wanted, environment_id=environment).first()
    if run is None:
        raise ids.missing("run", wanted)
    return run


def batch_of(run: Run) -> str | None:
    """The public id of the batch that the run was triggered in."""
    found = BatchItem.objects.filter(run=run.id).values_list("batch_id", flat=True).first()
    return None if found is None else ids.show("batch", found)


def relative(run: UUID | None) -> Run | None:
    """A run above another one; None if it is gone by now."""
    return None if run is None else Run.objects.filter(pk=run).defer(*_HEAVY).first()


def children(run: Run) -> QuerySet[Run]:
    """The first runs that this one triggered."""
    return Run.objects.filter(parent_id=run.id, parent_key__isnull=False).defer(*_HEAVY).order_by("id")[:_MOST]


def depth(run: Run) -> int:
    """How many runs are above it."""
    above, parent = 0, run.parent_id
    while parent is not None and above < _MOST:
        above, parent = above + 1, Run.objects.filter(pk=parent).values_list("parent_id", flat=True).first()
    return above


def runs(environment: int, params: Params) -> QuerySet[Run]:
    """Runs of the environment that pass every filter of the request."""
    return filtered(Run.objects.filter(environment_id=environment).defer(*_HEAVY), params, _FILTERS)


def _status(name: str, text: str) -> Q:
    return _any_of(_STATUSES[parameters.one_of(name, each, _STATUSES)] for each in parameters.texts(name, text))


def _any_of(choices: Any) -> Q:
    either = Q(pk__in=[])
    for choice in choices:
        either |= choice
    return either


_WAITS_FOR_ROOM = Q(status=Status.PENDING) & (Q(started_at__isnull=False) | Q(due_at__isnull=True))
_NONE = Q(pk__in=[])
_STATUSES: Mapping[str, Q] = {
    "QUEUED": Q(status=Status.QUEUED) | _WAITS_FOR_ROOM,
    "DELAYED": Q(status=Status.PENDING, started_at__isnull=True, due_at__isnull=False),
    "EXECUTING": Q(status=Status.RUNNING),
    **{s.name: Q(status=s) for s in Status if s.name not in ("PENDING", "QUEUED", "RUNNING")},
    "PENDING_VERSION": _NONE,
    "DEQUEUED": _NONE,
    "SYSTEM_FAILURE": _NONE,
}


def _is_test(name: str, text: str) -> Q:
    return _NONE if parameters.flag(name, text) else Q()


def _queue(name: str, text: str) -> Q:
    names = [each.removeprefix("task/") for each in parameters.texts(name, text)]
    # Looked up first: a join has the planner walk all runs, newest first, for a queue that has none.
    return Q(queue_id__in=list(Queue.objects.filter(name__in=names).values_list("pk", flat=True)))


def _batch(name: str, text: str) -> Q:
    batch = parameters.row(name, "batch", text)
    return _one_of(BatchItem.objects.filter(batch_id=batch).values("run"))


def _schedule(name: str, text: str) -> Q:
    schedule = parameters.row(name, "sched", text)
    return _one_of(Firing.objects.filter(schedule_id=schedule, run__isnull=False).values("run"))


class _Member(Func):
    """Whether an id is in an array."""

    template = "%(expressions)s)"
    arg_joiner = " = ANY("
    output_field = BooleanField()


def _one_of(runs: QuerySet[Any, Any]) -> Q:
    """As an array: the planner then begins with the ids, and does not walk all runs, newest first, for a few old."""
    return Q(_Member(F("id"), ArraySubquery(runs)))


def _nothing(name: str, text: str) -> Q:
    """No run has one yet."""
    return _NONE


def among(lookup: str) -> Callable[[str, str], Q]:
    """A filter that takes several values, of which one is enough."""
    return lambda name, text: Q(**{lookup: parameters.texts(name, text)})


def since(field: str, *, named: str = "filter[createdAt][{}]") -> Filters:
    """The three filters on a time."""
    return {
        named.format("from"): lambda name, text: Q(**{f"{field}__gte": moment(name, text)}),
        named.format("to"): lambda name, text: Q(**{f"{field}__lte": moment(name, text)}),
        named.format("period"): lambda name, text: Q(**{f"{field}__gte": Now() - duration(name, text)}),
    }


_FILTERS: Filters = {
    "filter[status]": _status,
    "filter[taskIdentifier]": among("task__in"),
    "filter[tag]": lambda name, text: TAGGED & Q(tags__overlap=parameters.texts(name, text)),
    "filter[queue]": _queue,
    "filter[version]": among("version__in"),
    "filter[batch]": _batch,
    "filter[schedule]": _schedule,
    "filter[isTest]": _is_test,
    **since("created_at"),
    **dict.fromkeys((f"filter[{n}]" for n in "machine region bulkAction error".split()), _nothing),
}
