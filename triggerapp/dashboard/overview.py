"""The pages beside the runs: what is waited for, events, queues, workers, who did what."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from triggerapp.dashboard import actions, asked, overviews, posted, values
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import queues
from triggerapp.errors import NotFound
from triggerapp.levels import Level, actor
from triggerapp.models import Queue, WaitKind

Json = Any


def _chosen(request: HttpRequest, *names: str) -> dict[str, str]:
    """Conditions of the URL, with the environment."""
    texts = {name: request.GET.get(name, "").replace("\0", "")[:255] for name in names}
    return {"environment": environment_in(request.GET), **texts}


def _listing(request: HttpRequest, title: str, chosen: dict[str, str], found: overviews.Page, **more: Json) -> Json:
    older = found.older and urlencode({**{k: v for k, v in chosen.items() if v}, "older": found.older})
    environments = asked.environment_names(request)
    return {"title": title, "chosen": chosen, "found": found, "older": older, "environments": environments, **more}


@page()
def waits(request: HttpRequest) -> HttpResponseBase:
    """What everything waits for."""
    chosen = {**_chosen(request, "name"), "kind": asked.choice(request, "kind", WaitKind.values)}
    found = overviews.waits(**chosen, older=asked.older_row(request, "waitpoint"))
    return render(
        request, "waits.html", _listing(request, "Waits", chosen, found, kinds=WaitKind.values, active="waits")
    )


@page()
def events(request: HttpRequest) -> HttpResponseBase:
    """What was sent."""
    chosen = _chosen(request, "name")
    unmatched = asked.flag(request, "unmatched")
    found = overviews.events(**chosen, unmatched=unmatched, older=asked.older_row(request, "event"))
    chosen["unmatched"] = "1" if unmatched else ""
    return render(request, "events.html", _listing(request, "Events", chosen, found, active="events"))


@page()
def event(request: HttpRequest, event_id: UUID) -> HttpResponseBase:
    """One event, and whom it reached."""
    found, reached, started = overviews.event(event_id)
    text = values.pretty(found.payload)
    context = {"title": found.name, "event": found, "payload": text[: values.SHOWN_CHARACTERS], "active": "events"}
    return render(request, "event.html", {**context, "reached": reached, "started": started})


@page()
def queue_list(request: HttpRequest) -> HttpResponseBase:
    """Queues, and what is in them."""
    chosen = _chosen(request)
    rows = overviews.queues(chosen["environment"])
    environments = asked.environment_names(request)
    context = {"title": "Queues", "rows": rows, "chosen": chosen, "environments": environments}
    return render(request, "queues.html", {**context, "active": "queues"})


@page(Level.ADMINISTER, methods=("POST",))
def pause(request: HttpRequest, queue_id: int) -> HttpResponseBase:
    """Pause a queue, or resume it."""
    queue = Queue.objects.select_related("environment").filter(pk=queue_id).first()
    if queue is None:
        raise NotFound(f"there is no queue {queue_id}")
    paused = posted.switch(request, "paused")
    queues.set_paused(queue.environment_id, queue.name, paused=paused, actor=actor(request))
    actions.say(request, f"{queue.name} is {'paused: what has started goes on' if paused else 'resumed'}.")
    return redirect("triggers:queues")


@page()
def workers(request: HttpRequest) -> HttpResponseBase:
    """Who is there to work."""
    return render(request, "workers.html", {"title": "Workers", "rows": overviews.workers(), "active": "workers"})


@page(Level.ADMINISTER)
def audit(request: HttpRequest) -> HttpResponseBase:
    """Who did what."""
    target = request.GET.get("target", "").replace("\0", "")[:255]
    found = overviews.audit(target=target, older=asked.older(request, asked.number_or_none))
    return render(request, "audit.html", _listing(request, "Audit log", {"target": target}, found, active="audit"))
