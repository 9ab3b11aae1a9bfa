"""Webhooks: endpoints that others post to, what they posted and what became of it, tests and replays."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from triggerapp import ids, redaction
from triggerapp.dashboard import actions, asked, overviews, posted, values
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import trials, webhooks
from triggerapp.engine.deliveries import Accepted, Rejected
from triggerapp.engine.webhooks import Issued
from triggerapp.errors import BadInput, NotFound
from triggerapp.levels import Level, actor
from triggerapp.models import Delivery, Endpoint, Preset, Verdict

Json = Any


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """All endpoints of an environment."""
    return _shown_list(request, environment_in(request.GET))


def _shown_list(request: HttpRequest, environment: str, issued: Issued | None = None) -> HttpResponseBase:
    context = {
        "title": "Webhooks",
        "active": "webhooks",
        "chosen": {"environment": environment},
        "environments": asked.environment_names(request),
        "rows": [(each, webhooks.url(each)) for each in webhooks.all_of(environment)],
        "presets": Preset.values,
        "issued": issued,
        "issued_to": issued and issued.endpoint.name,
    }
    return render(request, "webhooks.html", context)


@page(Level.ADMINISTER, methods=("POST",))
def create(request: HttpRequest) -> HttpResponseBase:
    """A new endpoint. A secret that is made here is shown in the answer to this request and never again."""
    environment = posted.environment(request)
    options = actions.read_json(request.POST.get("options", "").strip() or "{}", "the options")
    if not isinstance(options, dict):
        raise BadInput('the options must be an object, such as {"signature": "x-signature"}')
    issued = webhooks.create(
        environment,
        request.POST.get("name", "").strip(),
        preset=posted.choice(request, "preset", Preset.values),
        secret=request.POST.get("secret", "").strip() or None,
        options=options,
        actor=actor(request),
    )
    return _shown_list(request, environment, issued)


def _found(endpoint_id: int) -> Endpoint:
    found = Endpoint.objects.select_related("environment").filter(pk=endpoint_id).first()
    if found is None:
        raise NotFound(f"there is no endpoint {endpoint_id}")
    return found


@page()
def one(request: HttpRequest, endpoint_id: int) -> HttpResponseBase:
    """An endpoint, and its deliveries."""
    return _shown_one(request, _found(endpoint_id))


def _shown_one(request: HttpRequest, endpoint: Endpoint, issued: Issued | None = None) -> HttpResponseBase:
    verdict = asked.choice(request, "verdict", Verdict.values)
    found = overviews.deliveries(endpoint.pk, verdict=verdict, older=asked.older_row(request, "delivery"))
    context = {
        "title": endpoint.name,
        "active": "webhooks",
        "endpoint": endpoint,
        "url": webhooks.url(endpoint),
        "secrets": endpoint.secrets.order_by("-id"),
        "found": found,
        "older": found.older and f"verdict={verdict}&older={found.older}",
        "verdicts": Verdict.values,
        "verdict": verdict,
        "example": trials.example(endpoint),
        "kind_header": trials.kind_header(endpoint),
        "issued": issued,
        "issued_to": endpoint.name,
    }
    return render(request, "endpoint.html", context)


@page(Level.ADMINISTER, methods=("POST",))
def rotate(request: HttpRequest, endpoint_id: int) -> HttpResponseBase:
    """Another secret; the old ones stand for a day."""
    endpoint = _found(endpoint_id)
    secret = request.POST.get("secret", "").strip() or None
    issued = webhooks.rotate(endpoint.environment.slug, endpoint.name, secret=secret, actor=actor(request))
    return _shown_one(request, endpoint, issued)


@page(Level.ADMINISTER, methods=("POST",))
def switch(request: HttpRequest, endpoint_id: int) -> HttpResponseBase:
    """Refuse all deliveries, or take them again."""
    endpoint, disabled = _found(endpoint_id), posted.switch(request, "disabled")
    webhooks.set_disabled(endpoint.environment.slug, endpoint.name, disabled=disabled, actor=actor(request))
    actions.say(request, "All deliveries are refused from now on." if disabled else "Deliveries are taken again.")
    return redirect("triggers:endpoint", endpoint.pk)


@page(Level.OPERATE, methods=("POST",))
def test(request: HttpRequest, endpoint_id: int) -> HttpResponseBase:
    """Send a delivery that is signed as the provider would."""
    endpoint = _found(endpoint_id)
    body = request.POST.get("body", "").encode("utf-8", "replace")
    outcome = trials.send_test(endpoint, body, kind=request.POST.get("kind", "").strip(), actor=actor(request))
    match outcome:
        case Accepted(cached=True):
            actions.say(request, "It was taken for one that came before, and nothing happened.", good=False)
        case Accepted():
            actions.say(request, "It was accepted, and is an event.")
        case Rejected(reason=reason):
            actions.say(request, f"It was rejected: {reason}", good=False)
        case _:
            actions.say(request, "It was answered as a question whether anybody is here.")
    return redirect("triggers:endpoint", endpoint.pk)


@page()
def delivery(request: HttpRequest, delivery_id: UUID) -> HttpResponseBase:
    """One delivery: what came, what became of it and why."""
    found = Delivery.objects.select_related("endpoint").filter(pk=delivery_id).first()
    if found is None:
        raise ids.missing("delivery", delivery_id, "; deliveries are kept for a while only")
    context = {
        "title": f"Delivery to {found.endpoint.name}",
        "active": "webhooks",
        "delivery": found,
        "headers": sorted(redaction.data(dict(found.headers)).items()),
        "body": _body(bytes(found.body)),
        "may_replay": found.verdict == Verdict.ACCEPTED,
    }
    return render(request, "delivery.html", context)


def _body(data: bytes) -> str:
    """As JSON without secrets, or as the text that it is."""
    try:
        text = values.pretty(json.loads(data))
    except (ValueError, RecursionError):
        text = redaction.text(data.decode("utf-8", "replace"))
    return text[: values.SHOWN_CHARACTERS]


@page(Level.OPERATE, methods=("POST",))
def replay(request: HttpRequest, delivery_id: UUID) -> HttpResponseBase:
    """Make an event of it once more."""
    event = trials.replay(delivery_id, actor=actor(request))
    actions.say(request, "It is an event once more.")
    return redirect("triggers:event", event)
