"""Versions of the code that were registered, and which of them is the current one."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from triggerapp import ids
from triggerapp.dashboard import actions, asked, overviews
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import deployments, environments
from triggerapp.levels import Level, actor
from triggerapp.models import Deployment


@page()
def listing(request: HttpRequest) -> HttpResponseBase:
    """The newest versions."""
    environment = environment_in(request.GET)
    found = environments.id_of(environment)
    context = {
        "title": "Versions",
        "active": "versions",
        "chosen": {"environment": environment},
        "environments": asked.environment_names(request),
        "rows": overviews.deployments(environment),
        "current": found and deployments.current(found),
    }
    return render(request, "versions.html", context)


@page(Level.ADMINISTER, methods=("POST",))
def promote(request: HttpRequest, deployment_id: UUID) -> HttpResponseBase:
    """Make a version the current one; an older one too."""
    found = Deployment.objects.select_related("environment").filter(pk=deployment_id).first()
    if found is None:
        raise ids.missing("deployment", deployment_id)
    deployments.promote(found.environment_id, found.version, actor=actor(request))
    actions.say(request, f"{found.version} is the current version.")
    return redirect(reverse("triggers:versions") + "?" + urlencode({"environment": found.environment.slug}))
