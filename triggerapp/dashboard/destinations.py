"""Destinations: addresses that hear how runs end, what they were told and what they answered, tests and retries.

An address is written here and never shown whole: what follows its host often is the secret itself.
"""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from triggerapp.dashboard import actions, asked, overviews, posted
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import catalog, destinations, notices, posting
from triggerapp.engine.destinations import Issued
from triggerapp.errors import NotFound
from triggerapp.levels import Level, actor
from triggerapp.models import Destination


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """All destinations of an environment."""
    return _shown_list(request, environment_in(request.GET))


def _shown_list(request: HttpRequest, environment: str, issued: Issued | None = None) -> HttpResponseBase:
    context = {
        "title": "Destinations",
        "active": "destinations",
        "chosen": {"environment": environment},
        "environments": asked.environment_names(request),
        "rows": [(each, posting.origin(each.url)) for each in destinations.all_of(environment)],
        "kinds": destinations.KINDS,
        "wanted": destinations.FAILURES,
        "known_tasks": catalog.durable_tasks(),
        "issued": issued,
        "issued_to": issued and issued.destination.name,
    }
    return render(request, "destinations.html", context)


def _tasks(request: HttpRequest) -> list[str]:
    return [name.strip() for name in request.POST.get("tasks", "").split(",") if name.strip()]


@page(Level.ADMINISTER, methods=("POST",))
def create(request: HttpRequest) -> HttpResponseBase:
    """A new destination. Its secret is shown in the answer to this request and never again."""
    environment = posted.environment(request)
    issued = destinations.create(
        environment,
        request.POST.get("name", "").strip(),
        request.POST.get("url", "").strip(),
        wants=posted.choices(request, "wants", destinations.KINDS),
        tasks=_tasks(request),
        actor=actor(request),
    )
    return _shown_list(request, environment, issued)


def _found(destination_id: int) -> Destination:
    found = Destination.objects.select_related("environment").filter(pk=destination_id).first()
    if found is None:
        raise NotFound(f"there is no destination {destination_id}")
    return found


@page()
def one(request: HttpRequest, destination_id: int) -> HttpResponseBase:
    """A destination, and what it was told."""
    return _shown_one(request, _found(destination_id))


def _shown_one(request: HttpRequest, destination: Destination, issued: Issued | None = None) -> HttpResponseBase:
    found = overviews.notices(destination.pk, older=asked.older_row(request, "notice"))
    context = {
        "title": destination.name,
        "active": "destinations",
        "destination": destination,
        "origin": posting.origin(destination.url),
        "found": found,
        "older": found.older and f"older={found.older}",
        "kinds": destinations.KINDS,
        "wanted": destination.wants,
        "tasks": ", ".join(destination.tasks),
        "known_tasks": catalog.durable_tasks(),
        "issued": issued,
        "issued_to": destination.name,
    }
    return render(request, "destination.html", context)


@page(Level.ADMINISTER, methods=("POST",))
def edit(request: HttpRequest, destination_id: int) -> HttpResponseBase:
    """Other ends to hear of, other tasks, another address."""
    destination = _found(destination_id)
    destinations.update(
        destination.environment.slug,
        destination.name,
        url=request.POST.get("url", "").strip(),
        wants=posted.choices(request, "wants", destinations.KINDS),
        tasks=_tasks(request),
        actor=actor(request),
    )
    actions.say(request, "It is changed; its secret stays.")
    return redirect("triggers:destination", destination.pk)


@page(Level.ADMINISTER, methods=("POST",))
def rotate(request: HttpRequest, destination_id: int) -> HttpResponseBase:
    """Another secret, at once."""
    destination = _found(destination_id)
    issued = destinations.rotate(destination.environment.slug, destination.name, actor=actor(request))
    return _shown_one(request, issued.destination, issued)


@page(Level.ADMINISTER, methods=("POST",))
def switch(request: HttpRequest, destination_id: int) -> HttpResponseBase:
    """Tell it nothing, or tell it again."""
    destination, disabled = _found(destination_id), posted.switch(request, "disabled")
    destinations.set_disabled(destination.environment.slug, destination.name, disabled=disabled, actor=actor(request))
    actions.say(request, "It hears nothing from now on." if disabled else "It hears of what ends from now on.")
    return redirect("triggers:destination", destination.pk)


@page(Level.ADMINISTER, methods=("POST",))
def remove(request: HttpRequest, destination_id: int) -> HttpResponseBase:
    """Forget it, with its notices."""
    destination = _found(destination_id)
    destinations.remove(destination.environment.slug, destination.name, actor=actor(request))
    actions.say(request, f"{destination.name} is removed.")
    return redirect(reverse("triggers:destinations") + f"?environment={destination.environment.slug}")


@page(Level.OPERATE, methods=("POST",))
def test(request: HttpRequest, destination_id: int) -> HttpResponseBase:
    """Tell it something that is about nothing."""
    destination = _found(destination_id)
    notices.send_test(destination, actor=actor(request))
    actions.say(request, "A test is on its way: the list below says what was answered.")
    return redirect("triggers:destination", destination.pk)


@page(Level.OPERATE, methods=("POST",))
def retry(request: HttpRequest, notice_id: UUID) -> HttpResponseBase:
    """Deliver a notice once more, now."""
    notice = notices.retry(notice_id, actor=actor(request))
    actions.say(request, "It is on its way again.")
    return redirect("triggers:destination", notice.destination_id)
