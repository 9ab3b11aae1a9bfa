"""Environment variables. Values of secret ones go in and never come out.

The paths have a project, of which there is one, whatever it is called; the environment is the key's own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp.api.http import Access, View, body_of, only, yes_or_no
from triggerapp.engine import envvars
from triggerapp.engine.keys import SHORT_NAMES
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import EnvVar

_DONE = {"success": True}


class VariablesView(View):
    """A route of the variables of the caller's environment."""

    def environment(self, slug: str) -> int:
        """The environment that the path names; of another one than the key's there is none."""
        own = self.principal.slug
        if slug not in (own, SHORT_NAMES.get(own, own)):
            raise NotFound(f"there is no environment {slug[:40]!r} for this key")
        return self.principal.environment


def _rendered(variable: EnvVar) -> dict[str, Any]:
    return {"name": variable.name, "value": envvars.shown(variable), "isSecret": variable.is_secret}


class VariableList(VariablesView):
    """The environment's variables."""

    access: ClassVar[Access] = {"GET": ("read", "envvars"), "POST": ("write", "envvars")}

    def get(self, request: Request, project: str, environment: str) -> Response:
        """All of them, by name; secret ones without their values."""
        own = self.environment(environment)
        return Response([_rendered(variable) for variable in envvars.listed(own)])

    def post(self, request: Request, project: str, environment: str) -> Response:
        """Set one, new or not; one that is secret stays so."""
        own, body = self.environment(environment), only(body_of(request), "name", "value", "isSecret")
        name: Any = body.get("name")
        value: Any = body.get("value")
        envvars.put(own, name, value, is_secret=yes_or_no(body, "isSecret"), actor=self.principal.actor)
        return Response(_DONE)


class VariableImport(VariablesView):
    """Many variables at once."""

    access: ClassVar[Access] = {"POST": ("write", "envvars")}

    def post(self, request: Request, project: str, environment: str) -> Response:
        """Set all of them or none; those that are there only with `override`."""
        own = self.environment(environment)
        body = only(body_of(request), "variables", "override", "isSecret", "source")
        values = body.get("variables")
        if not isinstance(values, dict):
            raise BadInput("variables must be an object of names and values")
        override, is_secret = yes_or_no(body, "override"), yes_or_no(body, "isSecret")
        envvars.put_many(own, values, override=override, is_secret=is_secret, actor=self.principal.actor)
        return Response(_DONE)


class VariableDetail(VariablesView):
    """One variable."""

    access: ClassVar[Access] = {
        "GET": ("read", "envvars"),
        "PUT": ("write", "envvars"),
        "DELETE": ("write", "envvars"),
    }

    def get(self, request: Request, project: str, environment: str, name: str) -> Response:
        """The variable; a secret one without its value."""
        own = self.environment(environment)
        return Response(_rendered(envvars.find(own, name)))

    def put(self, request: Request, project: str, environment: str, name: str) -> Response:
        """Another value."""
        own, body = self.environment(environment), only(body_of(request), "value")
        value: Any = body.get("value")
        envvars.change(own, name, value, actor=self.principal.actor)
        return Response(_DONE)

    def delete(self, request: Request, project: str, environment: str, name: str) -> Response:
        """Delete it."""
        envvars.delete(self.environment(environment), name, actor=self.principal.actor)
        return Response(_DONE)
