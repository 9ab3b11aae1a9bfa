"""The buttons: each view reads its form, calls one verb of the engine, and shows the page again."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from triggerapp import ids
from triggerapp.dashboard import posted, values
from triggerapp.dashboard import run as pages
from triggerapp.dashboard.pages import page
from triggerapp.engine import calls, environments, events, limits, tokens, verbs
from triggerapp.errors import BadInput
from triggerapp.levels import Level, actor
from triggerapp.models import Run, Wait

Json = Any


def say(request: HttpRequest, text: str, *, good: bool = True) -> None:
    """Show a sentence on the next page; in a project without messages there is none."""
    messages.add_message(request, messages.SUCCESS if good else messages.ERROR, text, fail_silently=True)


@page(Level.OPERATE, methods=("POST",))
def retry(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Go on at the step that failed."""
    verbs.retry(run_id, actor=actor(request))
    say(request, "It is tried again; steps that were recorded are not repeated.")
    return redirect("triggers:run", run_id)


@page(Level.OPERATE, methods=("POST",))
def cancel(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Stop it."""
    _existing(run_id)
    canceled = verbs.cancel(run_id, actor=actor(request))
    say(request, "Canceled, with its children." if canceled else "It was over already.", good=canceled)
    return redirect("triggers:run", run_id)


@page(Level.OPERATE, methods=("POST",))
def replay(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Do it again as a new run, with the payload as it was or as it was edited, from the beginning or from a step."""
    run = _existing(run_id)
    text, step = request.POST.get("payload"), request.POST.get("from_step") or None
    edited = None if text is None else _edited(run, text)
    triggered = verbs.replay(
        run_id, actor=actor(request), arguments=edited, environment=run.environment_id, from_step=step
    )
    say(request, f"This is the replay of {ids.show('run', run_id)}{f' from its step {step}' if step else ''}.")
    return redirect("triggers:run", triggered.run_id)


def _existing(run_id: UUID) -> Run:
    run = Run.objects.filter(pk=run_id).only("environment_id", "task", "payload", "message").first()
    if run is None:
        raise ids.missing("run", run_id)
    return run


def _edited(run: Run, text: str) -> tuple[list[Json], dict[str, Json]]:
    wanted = read_json(text, "the payload")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("args", []), list):
        raise BadInput('the payload must be {"args": […], "kwargs": {…}}')
    if wanted.keys() - {"args", "kwargs"} or not isinstance(wanted.get("kwargs", {}), dict):
        raise BadInput('the payload must be {"args": […], "kwargs": {…}}, and nothing else')
    call = pages.arguments(bytes(run.payload), json.loads(run.message).get("content_type", "")) or ([], {})
    args, kwargs = values.restored(wanted.get("args", []), call[0]), values.restored(wanted.get("kwargs", {}), call[1])
    calls.check(run.task, args, kwargs)
    return args, kwargs


def read_json(text: str, what: str) -> Json:
    """A text field's JSON. Raises `BadInput`."""
    try:
        return json.loads(tokens.value_of(text.encode(errors="surrogatepass")))
    except ValueError as error:
        raise BadInput(f"{what} is not JSON that can be stored ({error}); a text stands in double quotes") from error


@page(Level.OPERATE, methods=("POST",))
def resolve(request: HttpRequest, wait_id: UUID) -> HttpResponseBase:
    """Complete a token by hand."""
    wait = Wait.objects.filter(pk=wait_id, kind="token").only("run_id", "environment_id").first()
    if wait is None:
        raise ids.missing("waitpoint", wait_id)
    value = json.dumps(read_json(request.POST.get("value") or "null", "the value"))
    completed = tokens.complete_as(wait_id, value, environment=wait.environment_id, actor=actor(request))
    say(request, "The token is completed." if completed else "The token was closed already.", good=completed)
    return _back(wait.run_id, "triggers:waits")


@page(Level.OPERATE, methods=("POST",))
def send_event(request: HttpRequest) -> HttpResponseBase:
    """Send an event by hand."""
    name = request.POST.get("name", "").strip()
    limits.check_text("an event's name", name)
    payload = json.dumps(read_json(request.POST.get("payload") or "null", "the payload"))
    external = request.POST.get("id", "").strip() or None
    limits.check_text("an event's id", external)
    named = "environment" in request.POST
    environment = environments.find(posted.environment(request)) if named else environments.current()
    emitted = events.emit_as(environment, name, payload, external_id=external, actor=actor(request))
    say(request, "The event was known already." if emitted.cached else f"The event {name} is sent.")
    return _back(ids.parsed("run", request.POST.get("run", "")), "triggers:events")


@page(Level.OPERATE, methods=("POST",))
def replay_event(request: HttpRequest, event_id: UUID) -> HttpResponseBase:
    """Send an event once more."""
    again = events.replay(event_id, actor=actor(request))
    say(request, "This is the same event, sent once more.")
    return redirect("triggers:event", again)


def _back(run_id: UUID | None, otherwise: str) -> HttpResponseBase:
    return redirect(otherwise) if run_id is None else redirect("triggers:run", run_id)
