"""The page of one run, its parts that are asked for again when it changes, and its downloads."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from triggerapp import conf, ids, redaction
from triggerapp.dashboard import asked, detail, explain, logs, snippets, values, waterfall
from triggerapp.dashboard.detail import Facts, Large
from triggerapp.dashboard.logs import LogFilter
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import carrying, limits
from triggerapp.errors import NotFound
from triggerapp.models import LIVE, Run, Status

Json = Any
_RETRIABLE = (Status.FAILED, Status.CRASHED, Status.TIMED_OUT)


@page()
def run(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """All of it."""
    facts = detail.facts(run_id)
    context = {"title": facts.run.task, "active": "runs", "live": facts.run.is_live, **of(facts), **_outcome(facts)}
    # By the database's clock, as all that its script counts on from.
    return render(request, "run.html", {**context, **_log(request, facts), "now": facts.run.now})


def _log(request: HttpRequest, facts: Facts) -> dict[str, Json]:
    """The lines of the run that the URL asks for."""
    wanted = LogFilter.parse(request)
    lines = logs.newest(facts.run.id, wanted, before=asked.number(request, "before"))
    return {
        "log": lines,
        "log_filter": wanted,
        "log_levels": logs.LEVELS,
        "log_query": wanted.query(),
        "log_live": wanted.query(line=lines.last, status=facts.run.status),
        "log_earlier": lines.earlier and wanted.query(before=lines.earlier),
        "log_is_kept": conf.get().LOGS == "on",
        "said": sum(facts.said.values()),
    }


@page()
def parts(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What depends on who looks, or is large: asked for again when the status changes."""
    facts = detail.facts(run_id)
    return render(request, "_parts.html", {**of(facts), **_outcome(facts)})


def of(facts: Facts) -> dict[str, Json]:
    """The context of what is the same for everybody, and goes over the stream."""
    run = facts.run
    return {
        "facts": facts,
        "run": run,
        "means": explain.MEANS[Status(run.status)],
        "next": explain.next_of(run, paused=facts.paused, rolled_back=carrying.is_rolled_back(facts.steps)),
        "spans": waterfall.spans(facts),
        "ticks": waterfall.ticks(facts),
        "most": detail.MOST,
    }


def _outcome(facts: Facts) -> dict[str, Json]:
    large = detail.large(facts.run.id)
    content_type = json.loads(facts.message).get("content_type", "")
    call = arguments(large.payload, content_type)
    return {
        "payload": _payload(large, content_type, call),
        "result": values.shown(large.result, size=large.result_size or 0, content_type=large.result_type),
        "error": facts.error if isinstance(facts.error, dict) else None,
        "call": call and values.pretty({"args": call[0], "kwargs": call[1]}),
        "python": call and snippets.python(facts.run.task, *call),
        "curl": call and snippets.curl(facts.run.task, *call),
        "beginnings": carrying.beginnings(facts.steps),
        "may_retry": facts.run.status in _RETRIABLE and not carrying.is_rolled_back(facts.steps),
        "may_cancel": facts.run.status in LIVE,
    }


def _payload(large: Large, content_type: str, call: tuple[list[Json], dict[str, Json]] | None) -> values.Shown:
    if call is None:
        return values.shown(large.payload, size=large.payload_size, content_type=content_type)
    text = json.dumps({"args": call[0], "kwargs": call[1]})
    return values.shown(text, size=large.payload_size)


def arguments(payload: bytes | None, content_type: str) -> tuple[list[Json], dict[str, Json]] | None:
    """The call in a message's body; None if it is not JSON, or too large to be looked at."""
    if payload is None or content_type != "application/json":
        return None
    try:
        args, kwargs, _ = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return list(args), dict(kwargs)


@page()
def journal(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """What was recorded, as a file."""
    recorded = detail.journal(run_id)
    for rows in recorded.values():
        for row in rows:
            row.update({name: _decoded(row[name]) for name in ("value", "error") if name in row})
    return _file(redaction.data(recorded), f"journal-{run_id}.json")


def _decoded(value: Json) -> Json:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


@page()
def download(request: HttpRequest, run_id: UUID, what: str) -> HttpResponseBase:
    """Payload or result as a file, however large."""
    if what not in ("payload", "result"):
        raise NotFound(f"a run has no {what[:20]}")
    found = Run.objects.filter(pk=run_id).only("payload", "result", "result_type", "message").first()
    if found is None:
        raise ids.missing("run", run_id)
    data = getattr(found, what)
    if data is None:
        raise NotFound(f"{ids.show('run', run_id)} has no {what}")
    content_type = found.result_type if what == "result" else json.loads(found.message).get("content_type", "")
    if content_type != "application/json":
        raise NotFound(f"the {what} is in {content_type}, which is not decoded here")
    return _file(redaction.data(_decoded(bytes(data).decode())), f"{what}-{run_id}.json")


def _file(value: Json, name: str) -> HttpResponse:
    text = limits.storable(json.dumps(value, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder))
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type="application/json; charset=utf-8", headers=headers)
