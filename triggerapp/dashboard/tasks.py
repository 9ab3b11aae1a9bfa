"""The tasks of this project, and a page to try each: a form made from its signature."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import redirect

from triggerapp import ids, redaction
from triggerapp.dashboard import asked, detail, queries, values
from triggerapp.dashboard import run as pages
from triggerapp.dashboard.actions import read_json
from triggerapp.dashboard.filters import RunFilter
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import calls, catalog, environments, limits
from triggerapp.errors import BadInput
from triggerapp.levels import Level, actor
from triggerapp.models import Run

Json = Any
_LAST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One parameter of a task's function."""

    name: str
    hint: str
    default: str
    required: bool
    text: bool
    """It takes text as it is typed; anything else is JSON."""
    value: str = ""


@page()
def tasks(request: HttpRequest) -> HttpResponseBase:
    """All durable tasks that this process knows and that people trigger."""
    rows = [(name, str(_signature(name)), _about(name)) for name in catalog.offered()]
    return render(request, "tasks.html", {"title": "Tasks", "rows": rows, "active": "tasks"})


def _about(name: str) -> str:
    """The first line of its docstring."""
    task = catalog.durable_task(name)
    return (inspect.getdoc(task.run) or "").partition("\n")[0] if task is not None else ""


def _signature(name: str) -> inspect.Signature:
    task = catalog.durable_task(name)
    if task is None:
        raise catalog.missing(name)
    try:
        return inspect.signature(task.run, eval_str=True)
    except (NameError, AttributeError, TypeError, SyntaxError):  # annotations that are for type checkers only
        return inspect.signature(task.run)


@page(Level.OPERATE, methods=("GET", "HEAD", "POST"))
def test(request: HttpRequest, name: str) -> HttpResponseBase:
    """Try a task: fill in its arguments, or take those of an earlier run."""
    if request.method == "POST":
        return _trigger(request, name)
    signature = _signature(name)
    last = queries.runs(RunFilter(task=name, environment=_here(), period="all"), limit=_LAST).rows
    earlier, given = request.GET.get("from", ""), _given(request, name)
    if earlier and given is None:
        asked.say(request, f"There are no arguments of a run {asked.quoted(earlier)} of this task to fill in.")
    context = {"title": f"Test {name}", "name": name, "last": last, "active": "tasks"}
    given = given or _NOTHING
    fields = fields_of(signature, redaction.data(_by_name(signature, given))) if is_simple(signature) else None
    raw = values.pretty(given)
    return render(request, "test.html", {**context, "fields": fields, "raw": raw, "signature": str(signature)})


def _here() -> str:
    return RunFilter.parse(QueryDict()).environment


def is_simple(signature: inspect.Signature) -> bool:
    """Whether each parameter can be a field of a form."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return all(parameter.kind in kinds for parameter in signature.parameters.values())


def fields_of(signature: inspect.Signature, given: dict[str, Json]) -> list[Field]:
    """The form, filled with what an earlier run was given."""
    return [_field(parameter, given) for parameter in signature.parameters.values()]


def _field(parameter: inspect.Parameter, given: dict[str, Json]) -> Field:
    text = parameter.annotation in (str, "str")
    required = parameter.default is parameter.empty
    value = given.get(parameter.name)
    shown = limits.storable(value if text and isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return Field(
        name=parameter.name,
        hint=_hint(parameter),
        default="" if required else repr(parameter.default),
        required=required,
        text=text,
        value=shown if parameter.name in given else "",
    )


def _hint(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _given(request: HttpRequest, name: str) -> dict[str, Json] | None:
    """What the earlier run that the URL names was given, with its secrets; None if it names none of this task's here:
    those of another task, or of another environment, are none of this one's."""
    run_id = ids.parsed("run", request.GET.get("from", ""))
    runs = Run.objects.filter(task=name, environment_id=environments.current())
    found = None if run_id is None else runs.filter(pk=run_id).only("message").first()
    if found is None:
        return None
    call = pages.arguments(detail.large(found.pk).payload, json.loads(found.message).get("content_type", ""))
    args, kwargs = call or ([], {})
    return {"args": args, "kwargs": kwargs}


_NOTHING: dict[str, Json] = {"args": [], "kwargs": {}}


def _by_name(signature: inspect.Signature, given: dict[str, Json]) -> dict[str, Json]:
    """Each argument under the name of its parameter; none if the function takes others by now."""
    try:
        return dict(signature.bind_partial(*given["args"], **given["kwargs"]).arguments)
    except TypeError:
        return {}


def _trigger(request: HttpRequest, name: str) -> HttpResponseBase:
    signature, given = _signature(name), _given(request, name) or _NOTHING
    # What was hidden from the form stays as the earlier run was given it.
    if "raw" in request.POST:
        payload = values.restored(read_json(request.POST["raw"], "the payload"), given)
    else:
        typed = dict(_arguments(request, field) for field in _filled(request, signature))
        payload = {"args": [], "kwargs": values.restored(typed, _by_name(signature, given))}
    call = calls.Call(task=name, payload=payload, options=_options(request))
    with transaction.atomic():
        (triggered,) = calls.trigger([call], environment=environments.current(), actor=actor(request))
    return redirect("triggers:run", triggered.run_id)


def _filled(request: HttpRequest, signature: inspect.Signature) -> list[Field]:
    return [field for field in fields_of(signature, {}) if _has(request, field)]


def _has(request: HttpRequest, field: Field) -> bool:
    """An empty field is the default; where there is none, an empty text."""
    return bool(request.POST.get(f"arg-{field.name}")) or (field.text and field.required)


def _arguments(request: HttpRequest, field: Field) -> tuple[str, Json]:
    text = request.POST.get(f"arg-{field.name}", "")
    return field.name, text if field.text else read_json(text, field.name)


def _options(request: HttpRequest) -> dict[str, Json]:
    options: dict[str, Json] = {}
    delay, key = request.POST.get("delay", "").strip(), request.POST.get("idempotency_key", "").strip()
    tags = [tag.strip() for tag in request.POST.get("tags", "").split(",") if tag.strip()]
    if delay:
        if not delay.isdecimal():
            raise BadInput(f"delay={delay!r:.40} must be whole seconds")
        options["delay"] = timedelta(seconds=int(delay[:10]))
    if key:
        options["idempotency_key"] = key
    return {**options, "tags": tags} if tags else options
