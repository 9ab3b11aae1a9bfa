"""Personal tokens: whoever has one may do here what its user may do in the dashboard, at this moment, and no more.

A token is of no environment. Each request names one, where Trigger.dev's clients have a place for it: in the path
(`…/envvars/{environment}`), in `filter[env]`, or in the header `x-trigger-branch` (`previewBranch` of the SDK). Only a
view that is about no environment, and says so by `anywhere`, is asked without.
"""

from __future__ import annotations

from typing import Final

from django.contrib.auth import get_user_model
from rest_framework.request import Request

from triggerapp import levels
from triggerapp.api.principals import Principal
from triggerapp.engine import environments
from triggerapp.engine.keys import SHORT_NAMES, Known
from triggerapp.errors import BadInput, NotFound
from triggerapp.levels import Level
from triggerapp.models import Environment

_LONGEST_ACTOR: Final = 200
"""Characters; what follows must fit into 255 too."""
_LONG_NAMES: Final = {short: slug for slug, short in SHORT_NAMES.items()}
_SHOWN: Final = "runs batch tasks tags queues events schedules deployments webhooks metrics whoami".split()
_SEEN: Final = tuple(f"read:{kind}" for kind in _SHOWN)
# The URL of a wait token completes it, so who may not do that is not told; variables are for those who administer.
_DONE: Final = (
    "trigger",
    "batchTrigger",
    "read:waitpoints",
    *(f"write:{kind}" for kind in ("runs", "events", "schedules", "waitpoints", "deliveries")),
)


def principal(token: Known, request: Request) -> Principal | None:
    """The user of the token, in the environment that the request names; None if they may not even look."""
    user = get_user_model()._default_manager.filter(pk=token.owner).first()
    if user is None or not user.is_active:  # which is no column of every user model
        return None
    http = request._request
    http.user = user  # whoever is logged in besides: the project's own resolver is to judge the token's user
    level = levels.level_of(http)
    if level == Level.NONE:
        return None
    environment = _environment(request)
    return Principal(
        environment=environment.pk,
        slug=environment.slug,
        actor=f"{levels.actor(http)[:_LONGEST_ACTOR]}, {token.prefix}",
        scopes=_scopes(level, str(request.method)),
        key=token.id,
        user=user,
        redacted=level < Level.ADMINISTER,
    )


def _scopes(level: Level, method: str) -> tuple[str, ...]:
    if level == Level.ADMINISTER:
        return ("admin",)
    if level == Level.OPERATE and method != "DELETE":  # deleting is for those who administer, in the dashboard too
        return (*_SEEN, *_DONE)
    return _SEEN


def _environment(request: Request) -> Environment:
    path, query = (request.parser_context or {}).get("kwargs", {}), request.query_params
    named = path.get("environment") or query.get("filter[env]") or request.headers.get("x-trigger-branch")
    if not named and getattr((request.parser_context or {}).get("view"), "anywhere", False):
        return Environment.objects.get(pk=environments.current())
    if not named:
        raise BadInput(
            "a personal token is of no environment: name one, in the header x-trigger-branch or, for a project's runs, "
            "in filter[env]"
        )
    found = Environment.objects.filter(slug=_LONG_NAMES.get(named, named)).first()
    if found is None:
        raise NotFound(f"there is no environment {named[:40]!r}; a personal token takes the name of one at a time")
    return found
