"""Environment variables: set, changed and deleted by administrators; secret ones are never shown again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from triggerapp.dashboard import actions, asked, posted
from triggerapp.dashboard.filters import environment_in
from triggerapp.dashboard.pages import page, render
from triggerapp.engine import environments, envvars
from triggerapp.errors import BadInput, UnreadableSecret
from triggerapp.levels import Level, actor
from triggerapp.models import EnvVar


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableRow:
    """A variable as it may be seen."""

    name: str
    is_secret: bool
    value: str
    problem: str
    updated_at: datetime
    updated_by: str


@page(Level.ADMINISTER)
def listing(request: HttpRequest) -> HttpResponseBase:
    """All variables of an environment."""
    slug = environment_in(request.GET)
    environment = environments.id_of(slug)
    found = [] if environment is None else envvars.listed(environment)
    context = {
        "title": "Environment variables",
        "active": "variables",
        "chosen": {"environment": slug},
        "environments": asked.environment_names(request),
        "rows": [_row(each) for each in found],
    }
    return render(request, "variables.html", context)


def _row(variable: EnvVar) -> VariableRow:
    value = problem = ""
    try:
        value = "" if variable.is_secret else envvars.shown(variable)
    except UnreadableSecret as error:
        problem = str(error)
    return VariableRow(
        name=variable.name,
        is_secret=variable.is_secret,
        value=value,
        problem=problem,
        updated_at=variable.updated_at,
        updated_by=variable.updated_by,
    )


@page(Level.ADMINISTER, methods=("POST",))
def put(request: HttpRequest) -> HttpResponseBase:
    """Set one, or all that are in a pasted `.env` file; those that are there already are changed."""
    slug, secret = posted.environment(request), posted.box(request, "secret")
    environment = environments.find(slug)
    pasted = parse(request.POST.get("pasted", ""))
    name = request.POST.get("name", "").strip()
    values = {**pasted, **({name: request.POST.get("value", "")} if name else {})}
    if not values:
        raise BadInput("a variable needs a name")
    envvars.put_many(environment, values, override=True, is_secret=secret, actor=actor(request))
    actions.say(request, f"{len(values)} set.")
    return _back(slug)


def parse(text: str) -> dict[str, str]:
    """The variables of a `.env` file: `NAME=value` on each line, quoted or not; comments and empty lines are none."""
    lines = (line.strip().removeprefix("export ") for line in text.splitlines())
    return dict(_assignment(line) for line in lines if line and not line.startswith("#"))


def _assignment(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals:
        raise BadInput(f"{name[:80]!r} is no NAME=value")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return name.strip(), value


@page(Level.ADMINISTER, methods=("POST",))
def delete(request: HttpRequest) -> HttpResponseBase:
    """Delete one."""
    slug, name = posted.environment(request), request.POST.get("name", "")
    envvars.delete(environments.find(slug), name, actor=actor(request))
    actions.say(request, f"{name} is deleted.")
    return _back(slug)


def _back(slug: str) -> HttpResponseBase:
    return redirect(reverse("triggers:variables") + "?" + urlencode({"environment": slug}))
